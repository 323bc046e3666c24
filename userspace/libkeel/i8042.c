// SPDX-License-Identifier: GPL-2.0-only
/*
 * A PS/2 keyboard controller (Intel 8042) with one port and nothing plugged into it.
 *
 * It is here for what guests use besides typing: the reset line (command 0xfe) and the A20 gate.
 * Commands are answered at once, so a probe finds the controller, no AUX port and no keyboard, and
 * has no timeout to wait for. Bytes to the absent keyboard are answered with "resend" (0xfe), as a
 * controller does for a device that does not pull its clock line; that ends a probe sooner than
 * silence.
 *
 * Lock: one mutex around the registers.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "libkeel.h"

#define OFFSET_DATA	0	/* port 0x60 */
#define OFFSET_COMMAND	4	/* port 0x64; 0x61 to 0x63 belong to others */

#define STATUS_OBF	0x01
#define STATUS_SYSTEM	0x04
#define STATUS_COMMAND	0x08
#define STATUS_UNLOCKED	0x10

#define CTR_KBD_IRQ	0x01
#define CTR_SYSTEM	0x04
#define CTR_KBD_OFF	0x10
#define CTR_AUX_OFF	0x20

#define OUT_RESET_N	0x01	/* output port: reset line, active low */
#define OUT_A20		0x02

enum {
	CMD_READ_CTR = 0x20, CMD_WRITE_CTR = 0x60, CMD_AUX_OFF = 0xa7, CMD_AUX_ON = 0xa8,
	CMD_AUX_TEST = 0xa9, CMD_SELF_TEST = 0xaa, CMD_KBD_TEST = 0xab, CMD_KBD_OFF = 0xad,
	CMD_KBD_ON = 0xae, CMD_READ_IN = 0xc0, CMD_READ_OUT = 0xd0, CMD_WRITE_OUT = 0xd1,
	CMD_KBD_LOOP = 0xd2, CMD_AUX_LOOP = 0xd3, CMD_AUX_SEND = 0xd4, CMD_PULSE = 0xf0,
};

#define REPLY_OK		0x55
#define REPLY_CLOCK_LOW		0x01	/* interface test: clock line stuck low */
#define REPLY_RESEND		0xfe

struct keel_i8042 {
	pthread_mutex_t lock;
	struct keel_irq irq;
	struct keel_power power;
	uint8_t ctr, out, data;
	uint8_t command;	/* whose data byte is awaited, or 0 */
	bool full, last_command, line;
};

int keel_i8042_create(const struct keel_irq *irq, const struct keel_power *power,
		      struct keel_i8042 **out)
{
	struct keel_i8042 *kbc = calloc(1, sizeof(*kbc));

	if (!kbc)
		return keel_fail(ENOMEM, "out of memory");
	pthread_mutex_init(&kbc->lock, NULL);
	kbc->irq = *irq;
	kbc->power = *power;
	kbc->ctr = CTR_SYSTEM | CTR_KBD_OFF | CTR_AUX_OFF;
	kbc->out = OUT_RESET_N | OUT_A20;
	*out = kbc;
	return 0;
}

void keel_i8042_destroy(struct keel_i8042 *kbc)
{
	if (!kbc)
		return;
	pthread_mutex_destroy(&kbc->lock);
	free(kbc);
}

static void irq_update(struct keel_i8042 *kbc)
{
	bool level = kbc->full && kbc->ctr & CTR_KBD_IRQ;

	if (level != kbc->line) {
		kbc->line = level;
		keel_irq_set(&kbc->irq, level);
	}
}

static void reply(struct keel_i8042 *kbc, uint8_t byte)
{
	kbc->data = byte;
	kbc->full = true;
}

static void command_write(struct keel_i8042 *kbc, uint8_t cmd)
{
	kbc->last_command = true;
	kbc->command = 0;
	switch (cmd) {
	case CMD_READ_CTR:
		reply(kbc, kbc->ctr);
		break;
	case CMD_AUX_OFF:
		kbc->ctr |= CTR_AUX_OFF;
		break;
	case CMD_AUX_ON:
		kbc->ctr &= ~CTR_AUX_OFF;
		break;
	case CMD_AUX_TEST:
		reply(kbc, REPLY_CLOCK_LOW);
		break;
	case CMD_SELF_TEST:
		reply(kbc, REPLY_OK);
		break;
	case CMD_KBD_TEST:
		reply(kbc, 0);
		break;
	case CMD_KBD_OFF:
		kbc->ctr |= CTR_KBD_OFF;
		break;
	case CMD_KBD_ON:
		kbc->ctr &= ~CTR_KBD_OFF;
		break;
	case CMD_READ_IN:
		reply(kbc, 0x80);	/* keyboard not locked */
		break;
	case CMD_READ_OUT:
		reply(kbc, kbc->out);
		break;
	case CMD_WRITE_CTR:
	case CMD_WRITE_OUT:
	case CMD_KBD_LOOP:
	case CMD_AUX_LOOP:
	case CMD_AUX_SEND:
		kbc->command = cmd;
		break;
	default:
		/* 0xf0 to 0xff pulse the output bits that are 0 in the command; bit 0 is reset */
		if (cmd >= CMD_PULSE && !(cmd & OUT_RESET_N))
			kbc->power.reset(kbc->power.opaque, "keyboard controller");
		break;
	}
}

static void data_write(struct keel_i8042 *kbc, uint8_t byte)
{
	uint8_t cmd = kbc->command;

	kbc->last_command = false;
	kbc->command = 0;
	switch (cmd) {
	case CMD_WRITE_CTR:
		kbc->ctr = byte;
		break;
	case CMD_WRITE_OUT:
		kbc->out = byte;
		if (!(byte & OUT_RESET_N))
			kbc->power.reset(kbc->power.opaque, "keyboard controller");
		break;
	case CMD_KBD_LOOP:
		reply(kbc, byte);
		break;
	case CMD_AUX_LOOP:
		reply(kbc, 0xff);	/* no AUX port: the byte does not come back */
		break;
	default:
		reply(kbc, REPLY_RESEND);
		break;
	}
}

static uint64_t i8042_read(void *dev, uint64_t offset, unsigned int size)
{
	struct keel_i8042 *kbc = dev;
	uint8_t value = 0xff;

	(void)size;
	pthread_mutex_lock(&kbc->lock);
	if (offset == OFFSET_DATA) {
		value = kbc->data;
		kbc->full = false;
		irq_update(kbc);
	} else if (offset == OFFSET_COMMAND) {
		value = STATUS_SYSTEM | STATUS_UNLOCKED | (kbc->full ? STATUS_OBF : 0) |
			(kbc->last_command ? STATUS_COMMAND : 0);
	}
	pthread_mutex_unlock(&kbc->lock);
	return value;
}

static void i8042_write(void *dev, uint64_t offset, uint64_t value, unsigned int size)
{
	struct keel_i8042 *kbc = dev;

	(void)size;
	pthread_mutex_lock(&kbc->lock);
	if (offset == OFFSET_DATA)
		data_write(kbc, value);
	else if (offset == OFFSET_COMMAND)
		command_write(kbc, value);
	irq_update(kbc);
	pthread_mutex_unlock(&kbc->lock);
}

const struct keel_bus_ops keel_i8042_ops = {
	.name = "i8042",
	.width = 1,
	.read = i8042_read,
	.write = i8042_write,
};

// SPDX-License-Identifier: GPL-2.0-only
/*
 * An NS16550A UART (PC16550D data sheet, section 8), whose line is infinitely fast: what the guest
 * writes has left the transmitter at once, so THRE and TEMT are always set.
 *
 * The receiver honours flow control the way a terminal on a null modem would: it takes bytes only
 * while the guest holds RTS, or, for a guest that has never raised RTS, while the receive interrupt
 * is enabled. So nothing typed (or piped in) before the guest's driver has started is thrown away
 * by its FIFO reset, a guest's "stty crtscts" loses nothing, and the FIFO never overruns.
 *
 * Lock: one mutex around all registers, held while the interrupt line changes, so that the line
 * can never be left in the state of an older register write, but not while output may block.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "libkeel.h"

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_RDI		0x01
#define IER_THRI	0x02
#define IER_RLSI	0x04
#define IER_MSI		0x08
#define IER_ALL		0x0f

#define IIR_NONE	0x01
#define IIR_MSI		0x00
#define IIR_THRI	0x02
#define IIR_RDI		0x04
#define IIR_RLSI	0x06
#define IIR_TIMEOUT	0x0c
#define IIR_FIFO	0xc0

#define FCR_ENABLE	0x01
#define FCR_CLEAR_RX	0x02
#define FCR_TRIGGER	0xc0

#define LCR_DLAB	0x80

#define MCR_DTR		0x01
#define MCR_RTS		0x02
#define MCR_OUT1	0x04
#define MCR_OUT2	0x08
#define MCR_LOOP	0x10
#define MCR_ALL		0x1f

#define LSR_DR		0x01
#define LSR_OE		0x02
#define LSR_BRK_ERRORS	0x1e
#define LSR_THRE	0x20
#define LSR_TEMT	0x40

#define MSR_DELTAS	0x0f
#define MSR_DCTS	0x01
#define MSR_DDSR	0x02
#define MSR_TERI	0x04
#define MSR_DDCD	0x08
#define MSR_CTS		0x10
#define MSR_DSR		0x20
#define MSR_RI		0x40
#define MSR_DCD		0x80

#define FIFO_SIZE	16

struct keel_uart {
	struct keel_uart_config config;
	pthread_mutex_t lock;
	uint8_t ier, fcr, lcr, mcr, lsr, msr, scr, dll, dlm;
	bool thre_pending;	/* THRE interrupt is latched until IIR shows it or THR is written */
	bool line;		/* level last driven */
	bool refused;		/* input waits for room */
	bool rts_seen;		/* the guest knows of RTS: only that counts */
	uint8_t fifo[FIFO_SIZE];
	unsigned int head, count;
};

int keel_uart_create(const struct keel_uart_config *config, struct keel_uart **out)
{
	struct keel_uart *uart = calloc(1, sizeof(*uart));

	if (!uart)
		return keel_fail(ENOMEM, "out of memory");
	uart->config = *config;
	pthread_mutex_init(&uart->lock, NULL);
	uart->lsr = LSR_THRE | LSR_TEMT;
	uart->msr = MSR_CTS | MSR_DSR | MSR_DCD;
	uart->dll = 0x0c;	/* 9600 baud, what a BIOS leaves */
	*out = uart;
	return 0;
}

void keel_uart_destroy(struct keel_uart *uart)
{
	if (!uart)
		return;
	pthread_mutex_destroy(&uart->lock);
	free(uart);
}

static unsigned int fifo_room(const struct keel_uart *uart)
{
	return (uart->fcr & FCR_ENABLE ? FIFO_SIZE : 1) - uart->count;
}

static unsigned int fifo_trigger(const struct keel_uart *uart)
{
	static const uint8_t level[] = { 1, 4, 8, 14 };

	return uart->fcr & FCR_ENABLE ? level[(uart->fcr & FCR_TRIGGER) >> 6] : 1;
}

/* The pending interrupt of highest priority, in IIR's encoding. */
static uint8_t irq_pending(const struct keel_uart *uart)
{
	if (uart->ier & IER_RLSI && uart->lsr & LSR_BRK_ERRORS)
		return IIR_RLSI;
	/* No time passes on this line, so a FIFO below its trigger level has timed out already. */
	if (uart->ier & IER_RDI && uart->count)
		return uart->count >= fifo_trigger(uart) ? IIR_RDI : IIR_TIMEOUT;
	if (uart->ier & IER_THRI && uart->thre_pending)
		return IIR_THRI;
	if (uart->ier & IER_MSI && uart->msr & MSR_DELTAS)
		return IIR_MSI;
	return IIR_NONE;
}

static void irq_update(struct keel_uart *uart)
{
	bool level = irq_pending(uart) != IIR_NONE;

	/* OUT2 gates the interrupt on PC cards; in loopback it is cut off from the pin */
	if (!(uart->mcr & MCR_OUT2) || uart->mcr & MCR_LOOP)
		level = false;
	if (level == uart->line)
		return;
	uart->line = level;
	keel_irq_set(&uart->config.irq, level);
}

static bool accepts(const struct keel_uart *uart)
{
	if (uart->mcr & MCR_LOOP)
		return false;
	return (uart->rts_seen ? uart->mcr & MCR_RTS : uart->ier & IER_RDI) && fifo_room(uart);
}

static void maybe_ready(struct keel_uart *uart)
{
	/* an empty receiver, not one free place: wakes the input thread once for 16 bytes */
	if (!uart->refused || uart->count || !accepts(uart))
		return;
	uart->refused = false;
	if (uart->config.ready)
		uart->config.ready(uart->config.opaque);
}

static void fifo_put(struct keel_uart *uart, uint8_t byte)
{
	uart->fifo[(uart->head + uart->count++) % FIFO_SIZE] = byte;
	uart->lsr |= LSR_DR;
}

static void fifo_clear(struct keel_uart *uart)
{
	uart->head = uart->count = 0;
	uart->lsr &= ~LSR_DR;
}

static uint8_t fifo_get(struct keel_uart *uart)
{
	uint8_t byte = uart->fifo[uart->head];

	if (!uart->count)
		return 0;
	uart->head = (uart->head + 1) % FIFO_SIZE;
	if (!--uart->count)
		uart->lsr &= ~LSR_DR;
	return byte;
}

size_t keel_uart_input(struct keel_uart *uart, const uint8_t *data, size_t len)
{
	size_t n = 0;

	pthread_mutex_lock(&uart->lock);
	while (n < len && accepts(uart))
		fifo_put(uart, data[n++]);
	uart->refused = n < len;
	irq_update(uart);
	pthread_mutex_unlock(&uart->lock);
	return n;
}

/*
 * Output may have to wait for a reader, so it happens without the lock: input, and the user's way
 * out, must not wait too. Order is kept, for the guest is told of an empty transmitter only after.
 */
static void transmit(struct keel_uart *uart, uint8_t byte)
{
	if (uart->mcr & MCR_LOOP) {
		if (fifo_room(uart))
			fifo_put(uart, byte);
		else
			uart->lsr |= LSR_OE;
	} else if (uart->config.output) {
		pthread_mutex_unlock(&uart->lock);
		uart->config.output(uart->config.opaque, byte);
		pthread_mutex_lock(&uart->lock);
	}
	uart->thre_pending = true;
}

/* In loopback RTS, DTR, OUT1 and OUT2 drive CTS, DSR, RI and DCD. */
static uint8_t modem_inputs(const struct keel_uart *uart)
{
	uint8_t in = 0;

	if (!(uart->mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	in |= uart->mcr & MCR_RTS ? MSR_CTS : 0;
	in |= uart->mcr & MCR_DTR ? MSR_DSR : 0;
	in |= uart->mcr & MCR_OUT1 ? MSR_RI : 0;
	in |= uart->mcr & MCR_OUT2 ? MSR_DCD : 0;
	return in;
}

static void modem_update(struct keel_uart *uart)
{
	uint8_t in = modem_inputs(uart), changed = (in ^ uart->msr) & ~MSR_DELTAS;
	uint8_t deltas = uart->msr & MSR_DELTAS;

	deltas |= changed & MSR_CTS ? MSR_DCTS : 0;
	deltas |= changed & MSR_DSR ? MSR_DDSR : 0;
	deltas |= changed & MSR_DCD ? MSR_DDCD : 0;
	if (changed & MSR_RI && !(in & MSR_RI))
		deltas |= MSR_TERI;
	uart->msr = in | deltas;
}

static void fcr_write(struct keel_uart *uart, uint8_t value)
{
	/* turning the FIFO on or off empties it; without ENABLE the other bits are not written */
	if ((value ^ uart->fcr) & FCR_ENABLE)
		fifo_clear(uart);
	if (!(value & FCR_ENABLE)) {
		uart->fcr = 0;
		return;
	}
	if (value & FCR_CLEAR_RX)
		fifo_clear(uart);
	uart->fcr = value & (FCR_ENABLE | FCR_TRIGGER);
}

static void ier_write(struct keel_uart *uart, uint8_t value)
{
	/* the transmitter is empty, and enabling its interrupt says so at once */
	if (value & ~uart->ier & IER_THRI)
		uart->thre_pending = true;
	uart->ier = value & IER_ALL;
}

static void uart_write(void *dev, uint64_t offset, uint64_t value, unsigned int size)
{
	struct keel_uart *uart = dev;

	(void)size;
	pthread_mutex_lock(&uart->lock);
	switch (offset) {
	case REG_DATA:
		if (uart->lcr & LCR_DLAB)
			uart->dll = value;
		else
			transmit(uart, value);
		break;
	case REG_IER:
		if (uart->lcr & LCR_DLAB)
			uart->dlm = value;
		else
			ier_write(uart, value);
		break;
	case REG_IIR_FCR:
		fcr_write(uart, value);
		break;
	case REG_LCR:
		uart->lcr = value;
		break;
	case REG_MCR:
		uart->mcr = value & MCR_ALL;
		if (uart->mcr & MCR_RTS && !(uart->mcr & MCR_LOOP))
			uart->rts_seen = true;
		modem_update(uart);
		break;
	case REG_SCR:
		uart->scr = value;
		break;
	default:
		/* LSR and MSR are read-only but for factory tests */
		break;
	}
	irq_update(uart);
	maybe_ready(uart);
	pthread_mutex_unlock(&uart->lock);
}

static uint8_t iir_read(struct keel_uart *uart)
{
	uint8_t iir = irq_pending(uart);

	if (iir == IIR_THRI)
		uart->thre_pending = false;
	return iir | (uart->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static uint8_t register_read(struct keel_uart *uart, uint64_t offset)
{
	uint8_t value;

	switch (offset) {
	case REG_DATA:
		return uart->lcr & LCR_DLAB ? uart->dll : fifo_get(uart);
	case REG_IER:
		return uart->lcr & LCR_DLAB ? uart->dlm : uart->ier;
	case REG_IIR_FCR:
		return iir_read(uart);
	case REG_LCR:
		return uart->lcr;
	case REG_MCR:
		return uart->mcr;
	case REG_LSR:
		value = uart->lsr;
		uart->lsr &= ~LSR_BRK_ERRORS;
		return value;
	case REG_MSR:
		value = uart->msr;
		uart->msr &= ~MSR_DELTAS;
		return value;
	default:
		return uart->scr;
	}
}

static uint64_t uart_read(void *dev, uint64_t offset, unsigned int size)
{
	struct keel_uart *uart = dev;
	uint8_t value;

	(void)size;
	pthread_mutex_lock(&uart->lock);
	value = register_read(uart, offset);
	irq_update(uart);
	maybe_ready(uart);
	pthread_mutex_unlock(&uart->lock);
	return value;
}

const struct keel_bus_ops keel_uart_ops = {
	.name = "uart8250",
	.width = 1,
	.read = uart_read,
	.write = uart_write,
};

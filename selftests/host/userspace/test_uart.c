// SPDX-License-Identifier: GPL-2.0-only
/*
 * The UART, register by register, and through the very probe sequence of Linux's 8250 driver
 * (drivers/tty/serial/8250/8250_port.c: autoconfig and serial8250_do_startup).
 */
#include "libkeel.h"
#include "tap.h"

static struct keel_uart *uart;
static struct keel_bus *bus;
static uint8_t sent[256];
static unsigned int sent_count, ready_count;
static bool line;
static unsigned int edges;

static void irq_set(void *controller, unsigned int number, bool level)
{
	(void)controller;
	CHECK_EQ(number, 4);
	edges += level && !line;
	line = level;
}

static void output(void *opaque, uint8_t byte)
{
	(void)opaque;
	sent[sent_count++ % sizeof(sent)] = byte;
}

static void ready(void *opaque)
{
	(void)opaque;
	ready_count++;
}

static void setup(void)
{
	struct keel_uart_config config = {
		.irq = { .set = irq_set, .line = 4 }, .output = output, .ready = ready,
	};

	sent_count = ready_count = edges = 0;
	line = false;
	if (keel_uart_create(&config, &uart) || keel_bus_create(&bus) ||
	    keel_bus_add(bus, KEEL_PIO, 0x3f8, KEEL_UART_PORTS, &keel_uart_ops, uart)) {
		printf("Bail out! %s\n", keel_error());
		exit(1);
	}
}

static void teardown(void)
{
	keel_bus_destroy(bus);
	keel_uart_destroy(uart);
}

static uint8_t in(unsigned int reg)
{
	uint8_t value;

	keel_bus_access(bus, KEEL_PIO, 0x3f8 + reg, &value, 1, false);
	return value;
}

static void out(unsigned int reg, uint8_t value)
{
	keel_bus_access(bus, KEEL_PIO, 0x3f8 + reg, &value, 1, true);
}

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

static size_t receive(const char *text)
{
	return keel_uart_input(uart, (const uint8_t *)text, strlen(text));
}

static void linux_probe(void)
{
	uint8_t status;

	setup();
	/* is there anything: four bits of IER hold, and only four */
	out(IER, 0);
	CHECK_EQ(in(IER), 0);
	out(IER, 0xff);
	CHECK_EQ(in(IER), 0x0f);
	out(IER, 0);
	/* loopback shows the modem outputs as inputs */
	out(MCR, 0x1a);
	CHECK_EQ(in(MSR) & 0xf0, 0x90);
	out(MCR, 0);
	/* a FIFO that works, and no larger one of a later chip */
	out(LCR, 0xbf);
	out(2, 0);
	out(LCR, 0);
	out(FCR, 0x01);
	CHECK_EQ(in(IIR) >> 6, 3);
	out(LCR, 0x80);
	CHECK(in(2) != 0);
	out(LCR, 0xbf);
	CHECK(in(2) != 0);
	out(LCR, 0);
	out(FCR, 0x21);
	status = in(IIR) & 0xe0;
	CHECK_EQ(status, 0xc0);
	/* no extended IER bits, as an XScale's */
	out(IER, 0x40);
	CHECK_EQ(in(IER), 0);
	/* startup: an enabled transmit interrupt is pending at once, and again when re-enabled */
	out(IER, 0x02);
	CHECK_EQ(in(IIR) & 0x0f, 0x02);
	CHECK_EQ(in(IIR) & 0x01, 0x01);
	out(IER, 0);
	out(IER, 0x02);
	CHECK_EQ(in(IIR) & 0x0f, 0x02);
	out(IER, 0);
	CHECK_EQ(in(LSR), 0x60);
	teardown();
}

static void divisor_latch(void)
{
	setup();
	out(LCR, 0x83);
	out(DATA, 0x01);
	out(IER, 0x02);
	CHECK_EQ(in(DATA), 0x01);
	CHECK_EQ(in(IER), 0x02);
	out(LCR, 0x03);
	CHECK_EQ(in(IER), 0);
	CHECK_EQ(in(LCR), 0x03);
	CHECK_EQ(sent_count, 0);
	out(SCR, 0xa5);
	CHECK_EQ(in(SCR), 0xa5);
	teardown();
}

static void transmit_interrupt(void)
{
	setup();
	out(MCR, 0x08);
	out(DATA, 'a');
	CHECK_EQ(sent_count, 1);
	CHECK_EQ(sent[0], 'a');
	CHECK(!line);
	out(IER, 0x02);
	CHECK(line);
	CHECK_EQ(in(IIR), 0x02);
	CHECK(!line);
	CHECK_EQ(in(IIR), 0x01);
	/* each byte leaves at once and empties the holding register anew */
	out(DATA, 'b');
	CHECK(line);
	CHECK_EQ(edges, 2);
	out(DATA, 'c');
	CHECK_EQ(edges, 2);
	out(IER, 0);
	CHECK(!line);
	CHECK_EQ(sent_count, 3);
	/* without OUT2 the interrupt does not reach the pin */
	out(MCR, 0);
	out(IER, 0x02);
	CHECK(!line);
	CHECK_EQ(in(IIR), 0x02);
	teardown();
}

static void receive_waits_for_the_guest(void)
{
	setup();
	CHECK_EQ(receive("x"), 0);
	CHECK_EQ(in(LSR) & 1, 0);
	out(MCR, 0x02);			/* RTS */
	CHECK_EQ(ready_count, 1);
	CHECK_EQ(receive("xy"), 1);	/* no FIFO yet: one byte */
	CHECK_EQ(in(LSR) & 1, 1);
	CHECK_EQ(in(DATA), 'x');
	CHECK_EQ(in(LSR) & 1, 0);
	CHECK_EQ(ready_count, 2);
	CHECK_EQ(receive("y"), 1);
	CHECK_EQ(in(DATA), 'y');
	CHECK_EQ(ready_count, 2);
	/* dropping RTS stops it, whatever interrupts are enabled */
	out(MCR, 0);
	out(IER, 0x01);
	CHECK_EQ(receive("z"), 0);
	CHECK_EQ(ready_count, 2);
	teardown();
}

static void receive_without_rts(void)
{
	setup();
	/* RTS in loopback reaches nobody: the probe does not count */
	out(MCR, 0x1a);
	out(MCR, 0);
	CHECK_EQ(receive("z"), 0);
	out(IER, 0x01);
	CHECK_EQ(ready_count, 1);
	CHECK_EQ(receive("z"), 1);
	CHECK_EQ(in(DATA), 'z');
	out(IER, 0);
	CHECK_EQ(receive("z"), 0);
	teardown();
}

static void receive_fifo(void)
{
	setup();
	out(FCR, 0xc1);			/* trigger level 14 */
	out(MCR, 0x0a);
	out(IER, 0x01);
	CHECK_EQ(receive("0123456789abcdefgh"), 16);
	CHECK(line);
	CHECK_EQ(in(IIR), 0xc4);
	CHECK_EQ(in(DATA), '0');
	CHECK_EQ(in(DATA), '1');
	CHECK_EQ(in(DATA), '2');
	/* below the level: the rest is a timeout, not silence */
	CHECK_EQ(in(IIR), 0xcc);
	CHECK(line);
	for (int i = 3; i < 16; i++)
		CHECK_EQ(in(DATA), "0123456789abcdef"[i]);
	CHECK(!line);
	CHECK_EQ(in(IIR), 0xc1);
	CHECK_EQ(ready_count, 1);
	CHECK_EQ(receive("gh"), 2);
	CHECK_EQ(edges, 2);
	/* clearing the FIFO takes all back */
	out(FCR, 0xc3);
	CHECK_EQ(in(LSR) & 1, 0);
	CHECK(!line);
	CHECK_EQ(in(DATA), 0);
	teardown();
}

static void interrupt_priority(void)
{
	setup();
	out(FCR, 0x01);
	out(MCR, 0x0a);
	in(MSR);
	out(IER, 0x0f);
	CHECK_EQ(receive("a"), 1);
	out(MCR, 0x1a);			/* loopback: CTS, DSR and DCD follow the outputs */
	out(MCR, 0x0a);
	CHECK_EQ(in(IIR), 0xc4);
	in(DATA);
	CHECK_EQ(in(IIR), 0xc2);
	CHECK_EQ(in(IIR), 0xc0);
	CHECK(in(MSR) & 0x0f);
	CHECK_EQ(in(IIR), 0xc1);
	CHECK_EQ(in(MSR), 0xb0);
	CHECK(!line);
	teardown();
}

static void loopback(void)
{
	setup();
	out(FCR, 0x01);
	out(MCR, 0x1a);
	out(DATA, 'q');
	CHECK_EQ(sent_count, 0);
	CHECK_EQ(in(LSR) & 1, 1);
	CHECK_EQ(in(DATA), 'q');
	/* the outside is cut off */
	CHECK_EQ(receive("x"), 0);
	/* 17 bytes are one too many */
	for (int i = 0; i < 17; i++)
		out(DATA, i);
	CHECK_EQ(in(LSR) & 0x02, 0x02);
	CHECK_EQ(in(LSR) & 0x02, 0);
	for (int i = 0; i < 16; i++)
		CHECK_EQ(in(DATA), i);
	CHECK(!line);
	teardown();
}

TESTS(TEST(linux_probe), TEST(divisor_latch), TEST(transmit_interrupt),
      TEST(receive_waits_for_the_guest), TEST(receive_without_rts), TEST(receive_fifo),
      TEST(interrupt_priority), TEST(loopback));

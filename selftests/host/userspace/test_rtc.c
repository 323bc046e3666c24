// SPDX-License-Identifier: GPL-2.0-only
/* The real-time clock, against a clock that stands where the test puts it. */
#include <time.h>

#include "libkeel.h"
#include "tap.h"

#define NSEC	1000000000ULL

static struct keel_memory *mem;
static struct keel_rtc *rtc;
static struct keel_bus *bus;
static uint64_t now;

static uint64_t fake_now(void *opaque)
{
	(void)opaque;
	return now;
}

static void setup(uint64_t size)
{
	/* Tue Feb 29 23:59:58 UTC 2028 */
	now = 1835481598 * NSEC;
	if (keel_memory_create(size, &mem) || keel_rtc_create(mem, fake_now, NULL, &rtc) ||
	    keel_bus_create(&bus) ||
	    keel_bus_add(bus, KEEL_PIO, 0x70, KEEL_RTC_PORTS, &keel_rtc_ops, rtc)) {
		printf("Bail out! %s\n", keel_error());
		exit(1);
	}
}

static void teardown(void)
{
	keel_bus_destroy(bus);
	keel_rtc_destroy(rtc);
	keel_memory_destroy(mem);
}

static void port(unsigned int n, uint8_t *value, bool write)
{
	keel_bus_access(bus, KEEL_PIO, 0x70 + n, value, 1, write);
}

static uint8_t get(uint8_t reg)
{
	uint8_t value;

	port(0, &reg, true);
	port(1, &value, false);
	return value;
}

static void set(uint8_t reg, uint8_t value)
{
	port(0, &reg, true);
	port(1, &value, true);
}

static void check_time(uint8_t year, uint8_t month, uint8_t day, uint8_t hour, uint8_t minute,
		       uint8_t second)
{
	CHECK_EQ(get(9), year);
	CHECK_EQ(get(8), month);
	CHECK_EQ(get(7), day);
	CHECK_EQ(get(4), hour);
	CHECK_EQ(get(2), minute);
	CHECK_EQ(get(0), second);
}

static void bcd_and_rollover(void)
{
	setup(64 * KEEL_MIB);
	CHECK_EQ(get(11), 0x02);
	CHECK_EQ(get(13), 0x80);
	CHECK_EQ(get(12), 0);
	check_time(0x28, 0x02, 0x29, 0x23, 0x59, 0x58);
	CHECK_EQ(get(6), 3);		/* Tuesday; Sunday is 1 */
	CHECK_EQ(get(0x32), 0x20);
	now += 2 * NSEC;
	check_time(0x28, 0x03, 0x01, 0x00, 0x00, 0x00);
	CHECK_EQ(get(6), 4);
	teardown();
}

static void formats(void)
{
	setup(64 * KEEL_MIB);
	set(11, 0x06);			/* binary, 24 hours */
	check_time(28, 2, 29, 23, 59, 58);
	set(11, 0x04);			/* binary, 12 hours */
	CHECK_EQ(get(4), 0x80 | 11);
	set(11, 0x00);			/* BCD, 12 hours */
	CHECK_EQ(get(4), 0x80 | 0x11);
	now += 2 * NSEC;
	CHECK_EQ(get(4), 0x12);		/* midnight */
	now += 12 * 3600 * NSEC;
	CHECK_EQ(get(4), 0x92);		/* noon */
	now += 3600 * NSEC;
	CHECK_EQ(get(4), 0x81);
	teardown();
}

static void setting(void)
{
	setup(64 * KEEL_MIB);
	set(11, 0x82);			/* SET: the registers stand still */
	now += 10 * NSEC;
	CHECK_EQ(get(0), 0x58);
	set(9, 0x99);
	set(0x32, 0x19);
	set(8, 0x12);
	set(7, 0x31);
	set(4, 0x11);
	set(2, 0x22);
	set(0, 0x33);
	CHECK_EQ(get(0), 0x33);
	set(11, 0x02);
	check_time(0x99, 0x12, 0x31, 0x11, 0x22, 0x33);
	CHECK_EQ(get(6), 6);		/* a Friday */
	now += 27 * NSEC;
	check_time(0x99, 0x12, 0x31, 0x11, 0x23, 0x00);
	/* one register on its own, with the clock running */
	set(2, 0x59);
	now += 60 * NSEC;
	check_time(0x99, 0x12, 0x31, 0x12, 0x00, 0x00);
	teardown();
}

static void nonsense_times(void)
{
	setup(64 * KEEL_MIB);
	for (unsigned int reg = 0; reg < 256; reg++)
		set(reg, 0xff);
	set(11, 0x02);
	get(0);
	for (unsigned int reg = 0; reg < 256; reg++)
		get(reg);
	for (unsigned int reg = 0; reg < 10; reg++)
		set(reg, 0);
	CHECK_EQ(get(13), 0x80);
	teardown();
}

static void update_in_progress(void)
{
	setup(64 * KEEL_MIB);
	CHECK_EQ(get(10), 0x26);
	now += NSEC - 244000;
	CHECK_EQ(get(10), 0xa6);
	now += 244000;
	CHECK_EQ(get(10), 0x26);
	now += NSEC - 1;
	set(11, 0x82);			/* SET stops updates */
	CHECK_EQ(get(10), 0x26);
	teardown();
}

static void memory_sizes(void)
{
	setup(64 * KEEL_MIB);
	CHECK_EQ(get(0x15) | get(0x16) << 8, 639);
	CHECK_EQ(get(0x17) | get(0x18) << 8, 63 * 1024);
	CHECK_EQ(get(0x34) | get(0x35) << 8, 48 * 16);
	CHECK_EQ(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, 0);
	teardown();
	setup(KEEL_MEMORY_MIN);
	CHECK_EQ(get(0x17) | get(0x18) << 8, 1024);
	CHECK_EQ(get(0x34) | get(0x35) << 8, 0);
	teardown();
}

static void index_port(void)
{
	uint8_t reg = 0x80 | 13, value;

	setup(64 * KEEL_MIB);
	port(0, &reg, true);		/* bit 7 is the NMI mask */
	port(1, &value, false);
	CHECK_EQ(value, 0x80);
	port(0, &value, false);
	CHECK_EQ(value, 0xff);
	set(0x40, 0x77);
	CHECK_EQ(get(0x40), 0x77);
	teardown();
}

TESTS(TEST(bcd_and_rollover), TEST(formats), TEST(setting), TEST(nonsense_times),
      TEST(update_in_progress), TEST(memory_sizes), TEST(index_port));

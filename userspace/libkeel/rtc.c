// SPDX-License-Identifier: GPL-2.0-only
/*
 * The MC146818 real-time clock and its CMOS memory at ports 0x70 (index) and 0x71 (data).
 *
 * The clock is the host's (UTC) plus an offset that the guest sets by writing the time registers.
 * Register B chooses binary or BCD and 12 or 24 hours; while its SET bit is on, the registers stand
 * still. There are no interrupts: alarm, periodic and update-ended never fire, and register C reads
 * as 0. The BIOS's memory sizes stand in the usual CMOS bytes.
 *
 * Lock: one mutex around index, registers and offset.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libkeel.h"

enum { REG_SECOND = 0, REG_MINUTE = 2, REG_HOUR = 4, REG_WDAY = 6, REG_DAY = 7, REG_MONTH = 8,
       REG_YEAR = 9, REG_A = 10, REG_B = 11, REG_C = 12, REG_D = 13, REG_CENTURY = 0x32 };

#define A_UIP		0x80	/* update in progress */
#define A_32KHZ		0x26
#define B_SET		0x80
#define B_BINARY	0x04
#define B_24H		0x02
#define D_VALID		0x80
#define HOUR_PM		0x80

#define NSEC		1000000000ULL
#define UIP_NSEC	244000ULL	/* UIP rises this long before the second changes */

struct keel_rtc {
	pthread_mutex_t lock;
	uint64_t (*now)(void *opaque);
	void *opaque;
	int64_t offset;			/* seconds the guest's clock is ahead of @now */
	uint8_t index;
	uint8_t cmos[128];
};

static uint64_t host_now(void *opaque)
{
	struct timespec ts;

	(void)opaque;
	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * NSEC + ts.tv_nsec;
}

static void put_size(struct keel_rtc *rtc, unsigned int at, uint64_t units, unsigned int bytes)
{
	uint64_t max = (1ULL << (8 * bytes)) - 1;

	if (units > max)
		units = max;
	for (unsigned int i = 0; i < bytes; i++)
		rtc->cmos[at + i] = units >> (8 * i);
}

int keel_rtc_create(const struct keel_memory *mem, uint64_t (*now)(void *opaque), void *opaque,
		    struct keel_rtc **out)
{
	uint64_t low = keel_memory_low(mem);
	struct keel_rtc *rtc = calloc(1, sizeof(*rtc));

	if (!rtc)
		return keel_fail(ENOMEM, "out of memory");
	pthread_mutex_init(&rtc->lock, NULL);
	rtc->now = now ? now : host_now;
	rtc->opaque = opaque;
	rtc->cmos[REG_A] = A_32KHZ;
	rtc->cmos[REG_B] = B_24H;
	put_size(rtc, 0x15, 639, 2);					/* KiB below 640 KiB */
	put_size(rtc, 0x17, (low - KEEL_MIB) >> 10, 2);			/* KiB above 1 MiB */
	put_size(rtc, 0x30, (low - KEEL_MIB) >> 10, 2);
	put_size(rtc, 0x34, low > 16 * KEEL_MIB ? (low - 16 * KEEL_MIB) >> 16 : 0, 2);
	put_size(rtc, 0x5b, keel_memory_high(mem) >> 16, 3);	/* 64 KiB units above 4 GiB */
	*out = rtc;
	return 0;
}

void keel_rtc_destroy(struct keel_rtc *rtc)
{
	if (!rtc)
		return;
	pthread_mutex_destroy(&rtc->lock);
	free(rtc);
}

static uint8_t encode(const struct keel_rtc *rtc, unsigned int n)
{
	return rtc->cmos[REG_B] & B_BINARY ? n : n / 10 % 10 << 4 | n % 10;
}

static unsigned int decode(const struct keel_rtc *rtc, uint8_t n)
{
	return rtc->cmos[REG_B] & B_BINARY ? n : (n >> 4) * 10 + (n & 0xf);
}

static uint8_t encode_hour(const struct keel_rtc *rtc, unsigned int hour)
{
	if (rtc->cmos[REG_B] & B_24H)
		return encode(rtc, hour);
	return encode(rtc, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static unsigned int decode_hour(const struct keel_rtc *rtc, uint8_t n)
{
	if (rtc->cmos[REG_B] & B_24H)
		return decode(rtc, n);
	return decode(rtc, n & ~HOUR_PM) % 12 + (n & HOUR_PM ? 12 : 0);
}

/* Guest's time into the time registers. */
static void clock_latch(struct keel_rtc *rtc)
{
	time_t t = (time_t)(rtc->now(rtc->opaque) / NSEC) + rtc->offset;
	unsigned int year;
	struct tm tm;

	if (!gmtime_r(&t, &tm))
		return;
	year = tm.tm_year + 1900;
	rtc->cmos[REG_SECOND] = encode(rtc, tm.tm_sec);
	rtc->cmos[REG_MINUTE] = encode(rtc, tm.tm_min);
	rtc->cmos[REG_HOUR] = encode_hour(rtc, tm.tm_hour);
	rtc->cmos[REG_WDAY] = encode(rtc, tm.tm_wday + 1);
	rtc->cmos[REG_DAY] = encode(rtc, tm.tm_mday);
	rtc->cmos[REG_MONTH] = encode(rtc, tm.tm_mon + 1);
	rtc->cmos[REG_YEAR] = encode(rtc, year % 100);
	/* software's own byte: BCD by custom whatever register B says */
	rtc->cmos[REG_CENTURY] = year / 1000 % 10 << 4 | year / 100 % 10;
}

/* The time registers, as the guest wrote them, become the guest's time. */
static void clock_set(struct keel_rtc *rtc)
{
	unsigned int century = (rtc->cmos[REG_CENTURY] >> 4) * 10 + (rtc->cmos[REG_CENTURY] & 0xf);
	struct tm tm = {
		.tm_sec = decode(rtc, rtc->cmos[REG_SECOND]),
		.tm_min = decode(rtc, rtc->cmos[REG_MINUTE]),
		.tm_hour = decode_hour(rtc, rtc->cmos[REG_HOUR]),
		.tm_mday = decode(rtc, rtc->cmos[REG_DAY]),
		.tm_mon = (int)decode(rtc, rtc->cmos[REG_MONTH]) - 1,
		.tm_year = (int)(century * 100 + decode(rtc, rtc->cmos[REG_YEAR])) - 1900,
	};
	time_t t = timegm(&tm);

	rtc->offset = t - (time_t)(rtc->now(rtc->opaque) / NSEC);
}

static bool is_time(unsigned int reg)
{
	switch (reg) {
	case REG_SECOND: case REG_MINUTE: case REG_HOUR: case REG_WDAY:
	case REG_DAY: case REG_MONTH: case REG_YEAR: case REG_CENTURY:
		return true;
	default:
		return false;
	}
}

static uint8_t cmos_read(struct keel_rtc *rtc, unsigned int reg)
{
	bool frozen = rtc->cmos[REG_B] & B_SET;

	if (is_time(reg)) {
		if (!frozen)
			clock_latch(rtc);
		return rtc->cmos[reg];
	}
	if (reg == REG_A && !frozen && rtc->now(rtc->opaque) % NSEC >= NSEC - UIP_NSEC)
		return rtc->cmos[REG_A] | A_UIP;
	if (reg == REG_C)
		return 0;
	if (reg == REG_D)
		return D_VALID;
	return rtc->cmos[reg];
}

static void cmos_write(struct keel_rtc *rtc, unsigned int reg, uint8_t value)
{
	bool frozen = rtc->cmos[REG_B] & B_SET;

	if (is_time(reg)) {
		if (!frozen)
			clock_latch(rtc);
		rtc->cmos[reg] = value;
		if (!frozen)
			clock_set(rtc);
	} else if (reg == REG_A) {
		rtc->cmos[REG_A] = value & ~A_UIP;
	} else if (reg == REG_B) {
		if (!frozen && value & B_SET)
			clock_latch(rtc);
		rtc->cmos[REG_B] = value;
		if (frozen && !(value & B_SET))
			clock_set(rtc);
	} else if (reg != REG_C && reg != REG_D) {
		rtc->cmos[reg] = value;
	}
}

static uint64_t rtc_read(void *dev, uint64_t offset, unsigned int size)
{
	struct keel_rtc *rtc = dev;
	uint8_t value = 0xff;		/* the index port is write-only */

	(void)size;
	if (offset) {
		pthread_mutex_lock(&rtc->lock);
		value = cmos_read(rtc, rtc->index);
		pthread_mutex_unlock(&rtc->lock);
	}
	return value;
}

static void rtc_write(void *dev, uint64_t offset, uint64_t value, unsigned int size)
{
	struct keel_rtc *rtc = dev;

	(void)size;
	pthread_mutex_lock(&rtc->lock);
	if (offset)
		cmos_write(rtc, rtc->index, value);
	else
		rtc->index = value & 0x7f;	/* bit 7 masks NMI, which nothing here raises */
	pthread_mutex_unlock(&rtc->lock);
}

const struct keel_bus_ops keel_rtc_ops = {
	.name = "rtc",
	.width = 1,
	.read = rtc_read,
	.write = rtc_write,
};

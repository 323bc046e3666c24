// SPDX-License-Identifier: GPL-2.0-only
/* Every device against random hostile drivers, a fixed number of them: the fuzzer's little brother. */
#include "hostile.h"
#include "tap.h"

#define DRIVERS	400
#define DEEDS	1500		/* bytes */

static uint64_t state;

static uint8_t next(void)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return state >> 56;
}

static void attack(unsigned int which)
{
	uint8_t bytes[DEEDS];

	state = which + 1;
	for (int i = 0; i < DRIVERS; i++) {
		for (int n = 0; n < DEEDS; n++)
			bytes[n] = next();
		hostile_run(hostile_devices[which], bytes, sizeof(bytes));
	}
	CHECK(hostile_devices[which] != NULL);
}

static void blk(void) { attack(0); }
static void net(void) { attack(1); }
static void console(void) { attack(2); }
static void rng(void) { attack(3); }
static void balloon(void) { attack(4); }
static void share(void) { attack(5); }

TESTS(TEST(blk), TEST(net), TEST(console), TEST(rng), TEST(balloon), TEST(share));

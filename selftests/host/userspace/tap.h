/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A test program is a table of functions; tap.c has main() and prints TAP.
 *
 * CHECK and its kin note a failure with both values and go on, so that one run shows all of them.
 */
#ifndef TAP_H
#define TAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test {
	const char *name;
	void (*run)(void);
};

#define TEST(function)	{ #function, function }

extern const struct test tests[];
extern const size_t tests_count;

#define TESTS(...)					\
	const struct test tests[] = { __VA_ARGS__ };	\
	const size_t tests_count = sizeof(tests) / sizeof(tests[0])

void tap_check(bool ok, const char *file, int line, const char *what);
void tap_equal(uint64_t have, uint64_t want, const char *file, int line, const char *what);

#define CHECK(cond)		tap_check(cond, __FILE__, __LINE__, #cond)
#define CHECK_EQ(have, want)	\
	tap_equal((uint64_t)(have), (uint64_t)(want), __FILE__, __LINE__, #have)

#endif

// SPDX-License-Identifier: GPL-2.0-only
/* main() of each unit test: runs the program's table and prints TAP (version 13). */
#include "tap.h"

static bool failed;

void tap_check(bool ok, const char *file, int line, const char *what)
{
	if (ok)
		return;
	failed = true;
	printf("# %s:%d: not true: %s\n", file, line, what);
}

void tap_equal(uint64_t have, uint64_t want, const char *file, int line, const char *what)
{
	if (have == want)
		return;
	failed = true;
	printf("# %s:%d: %s is 0x%llx, and should be 0x%llx\n", file, line, what,
	       (unsigned long long)have, (unsigned long long)want);
}

int main(void)
{
	bool any = false;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n1..%zu\n", tests_count);
	for (size_t i = 0; i < tests_count; i++) {
		failed = false;
		tests[i].run();
		any |= failed;
		printf("%sok %zu %s\n", failed ? "not " : "", i + 1, tests[i].name);
	}
	return any;
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unit tests of the instruction emulator, in TAP: the case tables, the decoder's lengths and
 * refusals, and that every row of the opcode table was used by some case; with --rows, which the
 * build calls, only the last.
 */
#include <stdio.h>
#include <string.h>
#include "harness.h"

static unsigned int test_nr, failures;

static void report(bool ok, const char *table, const char *name, const char *why)
{
	printf("%sok %u - %s: %s\n", ok ? "" : "not ", ++test_nr, table, name);
	if (!ok) {
		printf("# %s\n", why);
		failures++;
	}
}

static void run_table(const struct emu_case_table *t)
{
	char why[512];
	unsigned int i;

	for (i = 0; i < t->nr; i++) {
		bool ok = run_case(&t->cases[i], why, sizeof(why));

		report(ok, t->name, t->cases[i].name, why);
	}
}

struct length_case {
	const char *name;
	enum keel_emu_mode mode;
	const char *bytes;
	int result;		/* length, or -status */
};

#include "cases_decode.h"

static unsigned int hex(const char *s, u8 *buf)
{
	unsigned int n = 0, v;

	for (; *s; s += s[2] ? 3 : 2) {
		if (sscanf(s, "%2x", &v) != 1)
			break;
		buf[n++] = v;
	}
	return n;
}

/* Each with all its bytes, and truncated at every byte: that must ask for more, nothing else. */
static void run_lengths(void)
{
	unsigned int i, n, cut;
	struct keel_insn insn;
	char why[128];
	u8 bytes[32];
	int ret;

	for (i = 0; i < sizeof(length_cases) / sizeof(length_cases[0]); i++) {
		const struct length_case *c = &length_cases[i];
		bool ok;

		memset(bytes, 0x90, sizeof(bytes));
		n = hex(c->bytes, bytes);
		ret = keel_decode(&insn, bytes, sizeof(bytes), c->mode);
		ok = ret ? -ret == c->result : insn.length == c->result;
		snprintf(why, sizeof(why), "status %d, length %u, expected %d", ret, insn.length,
			 c->result);
		if (ok && !ret) {
			ok = (unsigned int)c->result == n && !memcmp(insn.bytes, bytes, n);
		}
		for (cut = 0; ok && !ret && cut < n; cut++) {
			ok = keel_decode(&insn, bytes, cut, c->mode) == KEEL_EMU_NEED_BYTES;
			snprintf(why, sizeof(why), "cut at %u: no request for more", cut);
		}
		report(ok, "decode", c->name, why);
	}
}

static void check_row(const struct keel_op *row, const struct row_path *path, const char *row_name)
{
	char name[96];

	if (row->op == OP_NOEXEC || row->op == OP_UD || row_was_hit(row))
		return;
	(void)path;
	snprintf(name, sizeof(name), "row %s has a case", row_name);
	report(false, "coverage", name, "no test case uses this row");
}

/* The build's check: run all cases for the rows that they use, and name the others. */
static void name_row(const struct keel_op *row, const struct row_path *path, const char *row_name)
{
	(void)path;
	if (row->op == OP_NOEXEC || row->op == OP_UD || row_was_hit(row))
		return;
	fprintf(stderr, "opcode table: no test case uses row %s\n", row_name);
	failures++;
}

static int check_rows(const struct emu_case_table *const *tables, unsigned int nr)
{
	char why[512];
	unsigned int i, j;

	for (i = 0; i < nr; i++)
		for (j = 0; j < tables[i]->nr; j++)
			run_case(&tables[i]->cases[j], why, sizeof(why));
	for_each_row(name_row);
	return failures ? 1 : 0;
}

int main(int argc, char **argv)
{
	static const struct emu_case_table *const tables[] = {
		&recorded_low_cases_table, &recorded_high_cases_table, &recorded_0f_cases_table,
		&data_cases_table, &flow_cases_table, &string_cases_table,
		&system_cases_table, &segment_cases_table, &vector_cases_table, &fx_cases_table,
		&device_cases_table, &bmi_cases_table,
		&far_cases_table, &iret_cases_table,
		&interrupt_cases_table, &syscall_cases_table, &task_cases_table,
		&debug_cases_table,
	};
	const unsigned int nr = sizeof(tables) / sizeof(tables[0]);
	unsigned int i, before;

	if (argc > 1 && !strcmp(argv[1], "--rows"))
		return check_rows(tables, nr);
	printf("TAP version 13\n");
	for (i = 0; i < nr; i++)
		run_table(tables[i]);
	run_lengths();
	before = failures;
	for_each_row(check_row);
	if (failures == before)
		report(true, "coverage", "every row that can execute has a case", "");
	printf("1..%u\n", test_nr);
	return failures ? 1 : 0;
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * The one place where libkeel's failures get their words.
 *
 * A function that fails says why exactly once, where it knows the most, and everyone above only
 * hands the errno on. The text is thread-local, so no lock is needed and a vCPU thread cannot
 * overwrite what the main thread is about to print.
 */
#include <stdarg.h>
#include <stdatomic.h>

#include "libkeel.h"

#define NOTES_MAX	32u

static __thread char message[512];
static atomic_uint notes;

int keel_fail(int err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	return -err;
}

const char *keel_error(void)
{
	return message[0] ? message : "unknown error";
}

void keel_note(const char *fmt, ...)
{
	char text[256];
	va_list args;

	if (notes >= NOTES_MAX || notes++ >= NOTES_MAX)
		return;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	/* "\r\n": the terminal may be raw */
	fprintf(stderr, "keel: %s\r\n", text);
}

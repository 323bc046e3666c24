// SPDX-License-Identifier: GPL-2.0-only
/* libFuzzer's door to hostile.c: KEEL_FUZZ_DEVICE says which device is attacked. */
#include <stdio.h>
#include <stdlib.h>

#include "hostile.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *device;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	device = getenv("KEEL_FUZZ_DEVICE");
	if (!device)
		device = hostile_devices[0];
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	hostile_run(device, data, size);
	return 0;
}

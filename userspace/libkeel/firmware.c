// SPDX-License-Identifier: GPL-2.0-only
/*
 * A PC's firmware in place of a kernel: SeaBIOS, say, which boots from a disk.
 *
 * The image ends at 4 GiB, where the CPU begins after reset, in a read-only memory slot; its last
 * 128 KiB are also below 1 MiB, in RAM, which is what a chipset's shadowing makes of it in the end.
 * What firmware asks of the board, the size of memory, it finds in the RTC's registers.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

#define GRANULE		(64u << 10)
#define SIZE_MAX_ROM	(256u << 10)	/* below are the pages that in-tree KVM on Intel wants */
#define SHADOW		(128u << 10)
#define TOP		(1u << 20)
#define SLOT		2u

int keel_vm_firmware(struct keel_vm *vm, const void *image, size_t size)
{
	size_t shadow = size < SHADOW ? size : SHADOW;

	if (!size || size % GRANULE || size > SIZE_MAX_ROM)
		return keel_fail(EINVAL, "--firmware: an image of %zu bytes is none for a PC: it has "
				 "64, 128 or 256 KiB", size);
	vm->firmware = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vm->firmware == MAP_FAILED) {
		vm->firmware = NULL;
		return keel_fail(ENOMEM, "out of memory");
	}
	vm->firmware_size = size;
	memcpy(vm->firmware, image, size);
	memcpy(keel_memory_at(vm->memory, TOP - shadow, shadow),
	       (const char *)image + size - shadow, shadow);
	return keel_slot_set(vm, SLOT, KEEL_HIGH_BASE - size, vm->firmware, size, true);
}

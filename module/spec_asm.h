/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the world switches share with C about speculation: struct keel_spec_switch as assembly sees it.
 */
#ifndef KEEL_SPEC_ASM_H
#define KEEL_SPEC_ASM_H

/* struct keel_spec_switch: offsets of its members; spec.c checks them. */
#define KEEL_SPEC_FLAGS		0
#define KEEL_SPEC_GUEST		4
#define KEEL_SPEC_HOST		8

/* Its flags. Bit 0 is free for the world switch's own use. */
#define KEEL_SPEC_VERW		0x02	/* clear the CPU's buffers before each entry */
#define KEEL_SPEC_SAVE		0x04	/* the guest writes SPEC_CTRL itself: read it after each exit */
#define KEEL_SPEC_WRITE		0x08	/* write the host's SPEC_CTRL after each exit, even if it is the guest's */
#define KEEL_SPEC_BHB		0x10	/* clear the branch history though the kernel does not ask for it */
#define KEEL_SPEC_L1D		0x20	/* flush the L1 data cache before the next entry */

#endif /* KEEL_SPEC_ASM_H */

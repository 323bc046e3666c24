/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compat.h for assembly: names of the kernel's speculation defences that differ between kernels.
 *
 * KEEL_FEATURE_NEVER stands for what a kernel does not know: an alternative on it is never applied. C code asks
 * through the functions keel_host_*() of compat.h.
 */
#ifndef KEEL_COMPAT_ASM_H
#define KEEL_COMPAT_ASM_H

#include <asm/cpufeatures.h>
#include <asm/nospec-branch.h>

#define KEEL_FEATURE_NEVER	ALT_NOT(X86_FEATURE_ALWAYS)

/* Clear the branch history after an exit; the name changed in 6.19. */
#if defined(X86_FEATURE_CLEAR_BHB_VMEXIT)
#define KEEL_FEATURE_BHB_VMEXIT		X86_FEATURE_CLEAR_BHB_VMEXIT
#elif defined(X86_FEATURE_CLEAR_BHB_LOOP_ON_VMEXIT)
#define KEEL_FEATURE_BHB_VMEXIT		X86_FEATURE_CLEAR_BHB_LOOP_ON_VMEXIT
#endif

/* An IBPB at each exit instead of at each kernel entry (SRSO). */
#ifdef X86_FEATURE_IBPB_ON_VMEXIT
#define KEEL_FEATURE_IBPB_ON_VMEXIT	X86_FEATURE_IBPB_ON_VMEXIT
#endif

/* An IBPB leaves return predictions alone. */
#ifdef X86_BUG_IBPB_NO_RET
#define KEEL_BUG_IBPB_NO_RET		X86_BUG_IBPB_NO_RET
#endif

#ifdef __ASSEMBLER__

#ifndef KEEL_FEATURE_BHB_VMEXIT
#define KEEL_FEATURE_BHB_VMEXIT		KEEL_FEATURE_NEVER
#endif
#ifndef KEEL_FEATURE_IBPB_ON_VMEXIT
#define KEEL_FEATURE_IBPB_ON_VMEXIT	KEEL_FEATURE_NEVER
#endif
#ifndef KEEL_BUG_IBPB_NO_RET
#define KEEL_BUG_IBPB_NO_RET		KEEL_FEATURE_NEVER
#endif

/* Older kernels with these defences have only UNTRAIN_RET, which holds an IBPB too. */
.macro KEEL_UNTRAIN_RET
#if defined(X86_FEATURE_SRSO_ALIAS)
	CALL_UNTRAIN_RET
#else
	UNTRAIN_RET
#endif
.endm

/* With call depth tracking, every call here was one that the kernel counts. */
#ifndef CREDIT_CALL_DEPTH
#define CREDIT_CALL_DEPTH
#endif

#endif /* __ASSEMBLER__ */

#endif /* KEEL_COMPAT_ASM_H */

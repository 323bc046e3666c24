/* SPDX-License-Identifier: GPL-2.0-only */
/* Kernel names for module/spec_rules.c built as a userspace program. */
#ifndef HOST_LINUX_TYPES_H
#define HOST_LINUX_TYPES_H

#include_next <linux/types.h>
#include <stdbool.h>

#endif

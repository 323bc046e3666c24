// SPDX-License-Identifier: GPL-2.0-only
#include "cases.h"
static const struct emu_case string_cases[] = {
{ "nop", M64, "90", "", "" },
};
CASE_TABLE(string_cases);

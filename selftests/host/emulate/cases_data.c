// SPDX-License-Identifier: GPL-2.0-only
#include "cases.h"
static const struct emu_case data_cases[] = {
{ "nop", M64, "90", "", "" },
};
CASE_TABLE(data_cases);

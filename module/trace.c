// SPDX-License-Identifier: GPL-2.0-only
/*
 * The one place where the trace events of trace.h come to be.
 */
#define CREATE_TRACE_POINTS
#include "trace.h"

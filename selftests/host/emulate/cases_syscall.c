// SPDX-License-Identifier: GPL-2.0-only
/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT, on both vendors' terms. The format is in cases.h.
 */
#include "cases.h"

#define KERNEL_SEGS(c, s)						\
	"cpl=0 cs.sel=" #c " cs.dpl=0 ss.sel=" #s " ss.dpl=0 "
#define USER_SEGS(c, s)							\
	"cpl=3 cs.sel=" #c " cs.dpl=3 ss.sel=" #s " ss.dpl=3 "
#define CODE64		"cs.l=1 cs.db=0 mode=4 "
#define CODE32		"cs.l=0 cs.db=1 mode=3 "
#define STAR		"efer=501 star=0033002800000000 lstar=ffff800000001234 cstar=5678 sfmask=700 "

static const struct emu_case syscall_cases[] = {
	{ "syscall", M64, "0f 05", STAR "cpl=3 cs.sel=43 ss.sel=3b fl=CI",
	  KERNEL_SEGS(28, 30) "cx=1002 r11=203 ip=ffff800000001234 fl=C" },
	{ "syscall at CPL 0", M64, "0f 05", STAR "fl=", "cs.sel=28 ss.sel=30 cx=1002 r11=2 "
	  "ip=ffff800000001234" },
	{ "syscall: TF masked is no trap", M64, "0f 05", STAR "fl=T",
	  "cs.sel=28 ss.sel=30 cx=1002 r11=102 ip=ffff800000001234 fl=" },
	{ "syscall: TF not masked is one", M64, "0f 05", STAR "sfmask=200 fl=T",
	  "cs.sel=28 ss.sel=30 cx=1002 r11=102 ip=ffff800000001234 fl=T trap=4000" },
	{ "syscall: RF is not saved", M64, "0f 05", STAR "fl=R",
	  "cs.sel=28 ss.sel=30 cx=1002 r11=2 ip=ffff800000001234 fl=" },
	{ "syscall: segments are fixed values", M64, "0f 05",
	  STAR "cpl=3 ss.limit=5 ss.base=77 ss.type=7 cs.limit=fff cs.type=f fl=",
	  KERNEL_SEGS(28, 30) "ss.limit=ffffffff ss.base=0 ss.type=3 cs.limit=ffffffff cs.type=b "
	  "cx=1002 r11=2 ip=ffff800000001234" },
	{ "syscall without SCE", M64, "0f 05", "efer=500", "fault=6" },
	{ "syscall in compatibility mode, Intel", M32, "0f 05", STAR "cpl=3", "fault=6" },
	{ "syscall in compatibility mode, AMD", M32, "0f 05", STAR "amd=1 cpl=3 fl=I",
	  KERNEL_SEGS(28, 30) CODE64 "cx=1002 r11=202 ip=5678 fl=" },
	{ "syscall in legacy mode, Intel", M32, "0f 05", "efer=1 star=33002800004321", "fault=6" },
	{ "syscall in legacy mode, AMD", M32, "0f 05",
	  "amd=1 efer=1 star=33002800004321 sfmask=1 cpl=3 fl=CIR",
	  KERNEL_SEGS(28, 30) "cx=1002 ip=4321 fl=C" },
	{ "syscall in real mode", MREAL, "0f 05", "amd=1 efer=1", "fault=6" },

	{ "sysret to 64-bit mode", M64, "48 0f 07", STAR "cx=7fff00001234 r11=10246 fl=",
	  USER_SEGS(43, 3b) "ip=7fff00001234 fl=PZI" },
	{ "sysret to compatibility mode", M64, "0f 07", STAR "cx=7fff00001234 r11=3203 fl=",
	  USER_SEGS(33, 3b) CODE32 "ip=1234 fl=CI iopl=3" },
	{ "sysret: RF and VM are not loaded", M64, "48 0f 07", STAR "cx=1234 r11=30002 fl=",
	  USER_SEGS(43, 3b) "ip=1234 fl=" },
	{ "sysret: TF traps at once", M64, "48 0f 07", STAR "cx=1234 r11=102 fl=",
	  USER_SEGS(43, 3b) "ip=1234 fl=T trap=4000" },
	{ "sysret, not canonical", M64, "48 0f 07", STAR "cx=800000000000", "fault=d:0" },
	{ "sysret at CPL 3", M64, "48 0f 07", STAR "cpl=3", "fault=d:0" },
	{ "sysret at CPL 3 without SCE", M64, "48 0f 07", "cpl=3", "fault=6" },
	{ "sysret in compatibility mode, Intel", M32, "0f 07", STAR, "fault=6" },
	{ "sysret in compatibility mode, AMD", M32, "0f 07", STAR "amd=1 cx=1234 r11=2 fl=I",
	  USER_SEGS(33, 3b) "ip=1234 fl=" },
	{ "sysret in legacy mode, AMD", M32, "0f 07",
	  "amd=1 efer=1 star=33002800004321 cx=1234 r11=ff fl=C",
	  USER_SEGS(33, 3b) "ip=1234 fl=CI" },

	{ "sysenter", M32, "0f 34", "secs=b sesp=5000 seip=4321 cpl=3 fl=CI",
	  KERNEL_SEGS(8, 10) "sp=5000 ip=4321 fl=C" },
	{ "sysenter from virtual-8086 mode", MVM, "0f 34", "secs=8 sesp=5000 seip=4321 fl=I",
	  KERNEL_SEGS(8, 10) "vm=0 mode=3 cs.limit=ffffffff cs.type=b cs.g=1 cs.db=1 "
	  "ss.limit=ffffffff ss.g=1 ss.db=1 sp=5000 ip=4321 fl=" },
	{ "sysenter with TF traps", M32, "0f 34", "secs=8 sesp=5000 seip=4321 fl=T",
	  "sp=5000 ip=4321 fl=T trap=4000" },
	{ "sysenter without a selector", M32, "0f 34", "secs=3", "fault=d:0" },
	{ "sysenter in real mode", MREAL, "0f 34", "secs=8", "fault=d" },
	{ "sysenter in 64-bit mode, Intel", M64, "0f 34",
	  "secs=28 sesp=ffff800000005000 seip=ffff800000004321 cpl=3 fl=I",
	  KERNEL_SEGS(28, 30) "sp=ffff800000005000 ip=ffff800000004321 fl=" },
	{ "sysenter in compatibility mode, Intel", M32, "0f 34",
	  "efer=500 secs=28 sesp=ffff800000005000 seip=ffff800000004321 cpl=3 fl=",
	  KERNEL_SEGS(28, 30) CODE64 "sp=ffff800000005000 ip=ffff800000004321" },
	{ "sysenter in long mode, AMD", M64, "0f 34", "amd=1 secs=28", "fault=6" },
	{ "sysenter in legacy mode, AMD", M32, "0f 34", "amd=1 secs=8 sesp=5000 seip=4321",
	  "sp=5000 ip=4321" },

	{ "sysexit", M32, "0f 35", "secs=8 cx=5000 dx=4321 fl=C",
	  USER_SEGS(1b, 23) "sp=5000 ip=4321" },
	{ "sysexit at CPL 3", M32, "0f 35", "secs=8 cpl=3", "fault=d:0" },
	{ "sysexit without a selector", M32, "0f 35", "secs=0", "fault=d:0" },
	{ "sysexit in real mode", MREAL, "0f 35", "secs=8", "fault=d" },
	{ "sysexit to 64-bit mode", M64, "48 0f 35", "secs=8 cx=7fff00005000 dx=7fff00004321",
	  USER_SEGS(2b, 33) "sp=7fff00005000 ip=7fff00004321" },
	{ "sysexit to compatibility mode", M64, "0f 35", "secs=8 cx=7fff00005000 dx=7fff00004321",
	  USER_SEGS(1b, 23) CODE32 "sp=5000 ip=4321" },
	{ "sysexit, RIP not canonical", M64, "48 0f 35", "secs=8 cx=0 dx=800000000000",
	  "fault=d:0" },
	{ "sysexit, RSP not canonical", M64, "48 0f 35", "secs=8 dx=0 cx=800000000000",
	  "fault=d:0" },
	{ "sysexit in long mode, AMD", M64, "0f 35", "amd=1 secs=8", "fault=6" },
};

CASE_TABLE(syscall_cases);

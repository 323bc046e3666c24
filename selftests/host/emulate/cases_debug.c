// SPDX-License-Identifier: GPL-2.0-only
/*
 * Debug registers: data and I/O breakpoints that the emulator's own accesses meet. The format is in
 * cases.h; in DR7, bits 1:0 enable the first register, 17:16 are its kind (1 write, 2 port, 3 read
 * or write), 19:18 its length.
 */
#include "cases.h"

static const struct emu_case debug_cases[] = {
	{ "write breakpoint", M32, "88 03", "bx=2000 dr0=2000 dr7=10401 ax=5", "m1:2000=5 trap=1" },
	{ "write breakpoint, global", M32, "88 03", "bx=2000 dr0=2000 dr7=10402 ax=5",
	  "m1:2000=5 trap=1" },
	{ "write breakpoint, not enabled", M32, "88 03", "bx=2000 dr0=2000 dr7=10400 ax=5",
	  "m1:2000=5" },
	{ "write breakpoint is not for reads", M32, "8a 03", "bx=2000 dr0=2000 dr7=10401 m1:2000=5",
	  "ax=5" },
	{ "access breakpoint, read", M32, "8a 03", "bx=2000 dr0=2000 dr7=30401 m1:2000=5",
	  "ax=5 trap=1" },
	{ "access breakpoint, write", M32, "88 03", "bx=2000 dr0=2000 dr7=30401 ax=5",
	  "m1:2000=5 trap=1" },
	{ "breakpoint, one byte of four is met", M32, "89 03", "bx=2000 dr0=2003 dr7=10401 ax=5",
	  "m4:2000=5 trap=1" },
	{ "breakpoint of four bytes, one of them met", M32, "88 03",
	  "bx=2003 dr0=2000 dr7=d0401 ax=5", "m1:2003=5 trap=1" },
	{ "breakpoint of four bytes ends", M32, "88 03", "bx=2004 dr0=2000 dr7=d0401 ax=5",
	  "m1:2004=5" },
	{ "breakpoint of eight bytes", M64, "88 03", "bx=2007 dr0=2000 dr7=90401 ax=5",
	  "m1:2007=5 trap=1" },
	{ "breakpoint of two bytes, address rounded down", M32, "88 03",
	  "bx=2000 dr1=2001 dr7=500404 ax=5", "m1:2000=5 trap=2" },
	{ "two breakpoints and a single step", M32, "88 03",
	  "fl=T bx=2000 dr0=2000 dr3=2000 dr7=30010441 ax=5", "m1:2000=5 trap=4009" },
	{ "breakpoint on a push", M32, "50", "dr2=6ffc dr7=1000410 ax=5",
	  "sp=6ffc m4:6ffc=5 trap=4" },
	{ "breakpoint: an instruction that faults has none", M32, "ff 33",
	  "bx=2000 dr0=2000 dr7=30401 sp=9000 m4:2000=5", "fault=e:2 cr2fault=8ffc" },
	{ "breakpoint on a locked access", M32, "f0 01 03", "bx=2000 dr0=2000 dr7=10401 ax=5 fl=",
	  "m4:2000=5 trap=1 fl=P" },
	{ "rep stos stops after the iteration that met it", M32, "f3 aa",
	  "di=2000 cx=4 ax=5 dr0=2001 dr7=10401",
	  "di=2002 cx=2 m2:2000=505 trap=1 ip=1000" },
	{ "descriptor tables are no data", M32, "8e d8", "ax=23 dr0=10020 dr7=f0401",
	  "ds.sel=23 ds.dpl=3" },
	{ "port breakpoint", M32, "e6 60", "dr0=60 dr7=20401 cr4=8 ax=5", "trap=1 log=o1:60=5" },
	{ "port breakpoint without CR4.DE", M32, "e6 60", "dr0=60 dr7=20401 ax=5", "log=o1:60=5" },
	{ "port breakpoint, another port", M32, "e6 61", "dr0=60 dr7=20401 cr4=8 ax=5",
	  "log=o1:61=5" },
	{ "port breakpoint, in", M32, "ed", "dx=5e dr0=60 dr7=20401 cr4=8",
	  "ax=33302d2a trap=1 log=i4:5e" },
	{ "memory breakpoint is none for ports", M32, "e6 60", "dr0=60 dr7=30401 cr4=8 ax=5",
	  "log=o1:60=5" },
	{ "rep outs stops after the element that met it", M32, "f3 6e",
	  "si=2000 cx=3 dx=60 dr0=60 dr7=20401 cr4=8 m2:2000=0605",
	  "si=2001 cx=2 trap=1 log=o1:60=5 ip=1000" },
	{ "breakpoint with MOV SS is held back", M32, "8e 13", "bx=2000 dr0=2000 dr7=30401 m2:2000=10",
	  "shadow=2" },
	{ "lost race: no trap of the first attempt", M32, "f0 01 03",
	  "lose=1 bx=2000 dr0=2000 dr7=10401 ax=5 fl=T m4:2000=1", "runs=2 m4:2000=86 trap=4001 fl=T" },
};

CASE_TABLE(debug_cases);

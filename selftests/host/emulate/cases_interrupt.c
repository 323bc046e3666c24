// SPDX-License-Identifier: GPL-2.0-only
/*
 * INT n, INT3, INTO, INT1, and the delivery of events ("!type vector:error": type 0 is an
 * interrupt, 2 an NMI, 3 an exception, 4 INT n, 6 INT3 or INTO). The format is in cases.h; the IDT
 * is at 12000, gate 20 at 12100 (8 bytes a gate) or 12200 (16).
 */
#include "cases.h"

#define WIDE_GDT	"gdt.limit=1ff "
#define NULL_SEG(s, rpl)						\
	s ".sel=" #rpl " " s ".dpl=" #rpl " " s ".limit=0 " s ".type=0 " s ".s=0 "	\
	s ".present=0 " s ".l=0 " s ".db=0 " s ".g=0 " s ".unusable=1 "
#define NULL_DATA	NULL_SEG("ds", 0) NULL_SEG("es", 0) NULL_SEG("fs", 0) NULL_SEG("gs", 0)
#define USER		"cpl=3 cs.sel=1b ss.sel=23 "
#define USER64		"cpl=3 cs.sel=2b ss.sel=23 "
#define TSS0		"m4:11004=6000 m4:11008=10 "
#define INNER		"cpl=0 cs.sel=8 cs.dpl=0 ss.sel=10 ss.dpl=0 "
/* offset 13456, code 08 */
#define INTR(dpl)	"m8:12100=0001" #dpl "e0000083456 "	/* interrupt gate */
#define TRAP(dpl)	"m8:12100=0001" #dpl "f0000083456 "
#define INTR16(dpl)	"m8:12100=0000" #dpl "60000083456 "
#define INTR64(dpl)	"m8:12200=0001" #dpl "e0000283456 m8:12208=0 "
#define TRAP64(dpl)	"m8:12200=0001" #dpl "f0000283456 m8:12208=0 "
#define AT_VM		"cs.sel=1000 ss.sel=2000 ds.sel=1 es.sel=2 fs.sel=3 gs.sel=4 "
#define VM_ENTRY	NULL_DATA "vm=0 mode=3 cpl=0 cs.sel=8 cs.dpl=0 cs.type=b cs.limit=ffffffff "	\
	"cs.db=1 cs.g=1 ss.sel=10 ss.dpl=0 ss.limit=ffffffff ss.db=1 ss.g=1 "

static const struct emu_case interrupt_cases[] = {
	/* real mode: the table is where IDTR says */
	{ "int in real mode", MREAL, "cd 20",
	  "idt.base=0 m2:80=1234 m2:82=2000 fl=CITK",
	  "ip=1234 cs.sel=2000 cs.base=20000 sp=6ffa m2:6ffe=303 m2:6ffc=0 m2:6ffa=1002 fl=C" },
	{ "int in real mode, table elsewhere", MREAL, "cd 20", "m2:12080=1234 fl=",
	  "ip=1234 sp=6ffa m2:6ffe=2 m2:6ffc=0 m2:6ffa=1002" },
	{ "int in real mode, table too short", MREAL, "cd 20", "idt.limit=82", "fault=d" },
	{ "int in real mode, stack split by its end", MREAL, "cd 20", "sp=3", "fault=c" },
	{ "int in real mode, stack wraps", MREAL, "cd 20", "m2:12080=1234 sp=2 fl=",
	  "ip=1234 sp=fffc m2:0=2 m2:fffe=0 m2:fffc=1002" },
	{ "int3 in real mode", MREAL, "cc", "m2:1200c=1234 fl=",
	  "ip=1234 sp=6ffa m2:6ffe=2 m2:6ffc=0 m2:6ffa=1001" },
	{ "exception in real mode has no error code", MREAL, "!3 d", "m2:12034=1234 fl=R",
	  "ip=1234 sp=6ffa m4:6ffe=2 m2:6ffc=0 m2:6ffa=1000 fl=" },
	{ "interrupt in real mode", MREAL, "!0 20", "m2:12080=1234 fl=I",
	  "ip=1234 sp=6ffa m2:6ffe=202 m2:6ffc=0 m2:6ffa=1000 fl=" },

	/* the instructions, legacy protected mode */
	{ "int, interrupt gate", M32, "cd 20", INTR(8) "fl=CINR",
	  "ip=13456 sp=6ff4 m4:6ffc=4203 m4:6ff8=8 m4:6ff4=1002 fl=C" },
	{ "int, trap gate: IF stays", M32, "cd 20", TRAP(8) "fl=I",
	  "ip=13456 sp=6ff4 m4:6ffc=202 m4:6ff8=8 m4:6ff4=1002 fl=I" },
	{ "int with TF: no trap", M32, "cd 20", TRAP(8) "fl=T",
	  "ip=13456 sp=6ff4 m4:6ffc=102 m4:6ff8=8 m4:6ff4=1002 fl=" },
	{ "int, 16-bit gate", M32, "cd 20", INTR16(8) "fl=I",
	  "ip=3456 sp=6ffa m2:6ffe=202 m2:6ffc=8 m2:6ffa=1002 fl=" },
	{ "int to CPL 0", M32, "cd 20", USER TSS0 INTR(e) "fl=",
	  INNER "ip=13456 sp=5fec m4:5ffc=23 m4:5ff8=7000 m4:5ff4=2 m4:5ff0=1b m4:5fec=1002" },
	{ "int to CPL 0, 16-bit gate", M32, "cd 20", USER TSS0 INTR16(e) "fl=",
	  INNER "ip=3456 sp=5ff6 m2:5ffe=23 m2:5ffc=7000 m2:5ffa=2 m2:5ff8=1b m2:5ff6=1002" },
	{ "int, gate DPL below CPL", M32, "cd 20", USER TSS0 INTR(8), "fault=d:102" },
	{ "int, gate beyond the table", M32, "cd 20", "idt.limit=106", "fault=d:102" },
	{ "int, no gate", M32, "cd 20", "", "fault=d:102" },
	{ "int, call gate", M32, "cd 20", "m8:12100=00008c0000083456", "fault=d:102" },
	{ "int, code descriptor in the table", M32, "cd 20", "m8:12100=00cf9e000000ffff",
	  "fault=d:102" },
	{ "int, gate not present", M32, "cd 20", "m8:12100=00000e0000083456", "fault=b:102" },
	{ "int, privilege before presence", M32, "cd 20", USER "m8:12100=00000e0000083456",
	  "fault=d:102" },
	{ "int, NULL code", M32, "cd 20", "m8:12100=00008e0000003456", "fault=d:0" },
	{ "int, code is data", M32, "cd 20", "m8:12100=00008e0000103456", "fault=d:10" },
	{ "int, code of an outer privilege", M32, "cd 20", "m8:12100=00008e0000183456",
	  "fault=d:18" },
	{ "int, code not present", M32, "cd 20",
	  WIDE_GDT "m8:12100=00008e0000a03456 m8:100a0=00cf1b000000ffff", "fault=b:a0" },
	{ "int, offset over the limit", M32, "cd 20",
	  WIDE_GDT "m8:12100=00008e0000a03456 m8:100a0=00409b0000000fff", "fault=d:0" },
	{ "int, conforming handler: CPL and stack stay", M32, "cd 20",
	  USER "m8:12100=0000ee0000503456 fl=",
	  "ip=3456 cs.sel=53 cs.type=f cs.dpl=0 sp=6ff4 m4:6ffc=2 m4:6ff8=1b m4:6ff4=1002" },
	{ "int, stack over the limit", M32, "cd 20", INTR(8) "ss.limit=6ffb", "fault=c:0" },
	{ "int, gate absent", M32, "cd 20", "idt.base=8000", "fault=e:0 cr2fault=8100" },
	{ "int, handler's code gets accessed", M32, "cd 20",
	  INTR(8) "m1:1000d=9a fl=", "m1:1000d=9b ip=13456 sp=6ff4 m4:6ffc=2 m4:6ff8=8 m4:6ff4=1002" },
	{ "int, new SS is NULL", M32, "cd 20", USER INTR(e), "fault=a:0" },
	{ "int, TSS too short", M32, "cd 20", USER TSS0 INTR(e) "tr.limit=8", "fault=a:88" },
	{ "int3", M32, "cc", "m8:12018=0000ee0000083456 fl=",
	  "ip=3456 sp=6ff4 m4:6ffc=2 m4:6ff8=8 m4:6ff4=1001" },
	{ "int3, gate DPL below CPL", M32, "cc", USER "m8:12018=00008e0000083456", "fault=d:1a" },
	{ "into with OF", M32, "ce", "m8:12020=0000ee0000083456 fl=O",
	  "ip=3456 sp=6ff4 m4:6ffc=802 m4:6ff8=8 m4:6ff4=1001" },
	{ "into without OF", M32, "ce", "fl=", "" },
	{ "into, gate DPL below CPL", M32, "ce", USER "fl=O m8:12020=00008e0000083456",
	  "fault=d:22" },
	{ "int1 needs no gate DPL", M32, "f1", USER TSS0 "m8:12008=00008e0000083456 fl=",
	  INNER "ip=3456 sp=5fec m4:5ffc=23 m4:5ff8=7000 m4:5ff4=2 m4:5ff0=1b m4:5fec=1001" },
	{ "int1, no gate: EXT", M32, "f1", "", "fault=d:b" },

	/* events */
	{ "interrupt", M32, "!0 20", INTR(8) "fl=CI",
	  "ip=13456 sp=6ff4 m4:6ffc=203 m4:6ff8=8 m4:6ff4=1000 fl=C" },
	{ "exception with error code", M32, "!3 20:18", INTR(8) "fl=R",
	  "ip=13456 sp=6ff0 m4:6ffc=10002 m4:6ff8=8 m4:6ff4=1000 m4:6ff0=18 fl=" },
	{ "exception, 16-bit gate", M32, "!3 20:18", INTR16(8) "fl=",
	  "ip=3456 sp=6ff8 m2:6ffe=2 m2:6ffc=8 m2:6ffa=1000 m2:6ff8=18" },
	{ "exception to CPL 0, gate DPL does not matter", M32, "!3 20:18", USER TSS0 INTR(8) "fl=",
	  INNER "ip=13456 sp=5fe8 m4:5ffc=23 m4:5ff8=7000 m4:5ff4=2 m4:5ff0=1b m4:5fec=1000 "
	  "m4:5fe8=18" },
	{ "nmi", M32, "!2 2", "m8:12010=00008e0000083456 fl=",
	  "ip=3456 sp=6ff4 m4:6ffc=2 m4:6ff8=8 m4:6ff4=1000" },
	{ "event, no gate: EXT", M32, "!0 20", "", "fault=d:103" },
	{ "event, gate not present: EXT", M32, "!3 20", "m8:12100=00000e0000083456", "fault=b:103" },
	{ "event, code NULL: EXT", M32, "!3 20", "m8:12100=00008e0000003456", "fault=d:1" },
	{ "event, code is data: EXT", M32, "!3 20", "m8:12100=00008e0000103456", "fault=d:11" },
	{ "event, stack over the limit: EXT", M32, "!3 20", INTR(8) "ss.limit=6ffb", "fault=c:1" },
	{ "event, TSS too short: EXT", M32, "!0 20", USER TSS0 INTR(e) "tr.limit=8", "fault=a:89" },
	{ "event, new SS NULL: EXT", M32, "!0 20", USER INTR(e), "fault=a:1" },
	{ "event, new SS not present: EXT", M32, "!0 20",
	  USER INTR(e) "m4:11004=6000 m4:11008=38", "fault=c:39" },
	{ "event, new stack too small: EXT", M32, "!0 20",
	  USER INTR(e) WIDE_GDT "m8:100a0=0040930000000fff m4:11004=8 m4:11008=a0", "fault=c:a1" },
	{ "event, offset over the limit: EXT", M32, "!0 20",
	  WIDE_GDT "m8:12100=00008e0000a03456 m8:100a0=00409b0000000fff", "fault=d:1" },
	{ "event, new stack absent", M32, "!0 20",
	  USER INTR(e) "m4:11004=9000 m4:11008=10", "fault=e:2 cr2fault=8ffc" },
	{ "event loses the race for an accessed bit", M32, "!0 20",
	  INTR(8) "m1:1000d=9a lose=1", "fault=b:9 m1:1000d=1a" },
	{ "event onto a device", M32, "!0 20", INTR(8) "sp=a00c",
	  "ip=13456 sp=a000 fl= log=w4:a008=2,w4:a004=8,w4:a000=1000" },

	/* virtual-8086 mode */
	{ "int in virtual-8086 mode, IOPL 3", MVM, "cd 20",
	  AT_VM TSS0 INTR(e) "cs.base=0 iopl=3 fl=I",
	  VM_ENTRY "ip=13456 sp=5fdc m4:5ffc=4 m4:5ff8=3 m4:5ff4=1 m4:5ff0=2 m4:5fec=2000 "
	  "m4:5fe8=7000 m4:5fe4=23202 m4:5fe0=1000 m4:5fdc=1002 fl=" },
	{ "int in virtual-8086 mode, IOPL 0", MVM, "cd 20", TSS0 INTR(e), "fault=d:0" },
	{ "int3 in virtual-8086 mode, IOPL 0", MVM, "cc",
	  AT_VM TSS0 "cs.base=0 m8:12018=0000ee0000083456 fl=",
	  VM_ENTRY "ip=3456 sp=5fdc m4:5ffc=4 m4:5ff8=3 m4:5ff4=1 m4:5ff0=2 m4:5fec=2000 "
	  "m4:5fe8=7000 m4:5fe4=20002 m4:5fe0=1000 m4:5fdc=1001" },
	{ "exception in virtual-8086 mode", MVM, "!3 20:18",
	  AT_VM TSS0 INTR(8) "fl=",
	  VM_ENTRY "ip=13456 sp=5fd8 m4:5ffc=4 m4:5ff8=3 m4:5ff4=1 m4:5ff0=2 m4:5fec=2000 "
	  "m4:5fe8=7000 m4:5fe4=20002 m4:5fe0=1000 m4:5fdc=1000 m4:5fd8=18" },
	{ "exception in virtual-8086 mode, 16-bit gate", MVM, "!3 20",
	  AT_VM TSS0 INTR16(8) "fl=",
	  VM_ENTRY "ip=3456 sp=5fee m2:5ffe=4 m2:5ffc=3 m2:5ffa=1 m2:5ff8=2 m2:5ff6=2000 "
	  "m2:5ff4=7000 m2:5ff2=2 m2:5ff0=1000 m2:5fee=1000" },
	{ "exception in virtual-8086 mode, new stack absent: the mode stays", MVM, "!3 20:18",
	  AT_VM INTR(8) "m4:11004=9000 m4:11008=10", "fault=e:2 cr2fault=8ffc" },
	{ "interrupt from compatibility mode, new stack absent: the mode stays", M32, "!0 20",
	  USER "efer=500 m8:11004=9000 " INTR64(8), "fault=e:2 cr2fault=8ff8" },
	{ "interrupt in virtual-8086 mode, handler not at CPL 0", MVM, "!0 20",
	  TSS0 "m8:12100=00008e0000183456", "fault=d:19" },
	{ "interrupt in virtual-8086 mode, conforming handler", MVM, "!0 20",
	  TSS0 "m8:12100=00008e0000503456", "fault=d:51" },
	{ "int in virtual-8086 mode, VME redirects", MVM, "cd 20",
	  "cr4=1 m2:11066=88 m2:80=1234 m2:82=2000 fl=Cf",
	  "ip=1234 cs.sel=2000 cs.base=20000 sp=6ffa m2:6ffe=3203 m2:6ffc=0 m2:6ffa=1002 fl=C" },
	{ "int with VME, IF hidden behind VIF", MVM, "cd 20",
	  "cr4=1 m2:11066=88 m2:80=1234 fl=I",
	  "ip=1234 sp=6ffa m2:6ffe=3002 m2:6ffc=0 m2:6ffa=1002 fl=I" },
	{ "int with VME and IOPL 3", MVM, "cd 20",
	  "cr4=1 m2:11066=88 m2:80=1234 iopl=3 fl=If",
	  "ip=1234 sp=6ffa m2:6ffe=3202 m2:6ffc=0 m2:6ffa=1002 fl=f" },
	{ "int with VME, bit set, IOPL 0", MVM, "cd 20", "cr4=1 m2:11066=88 m1:1106c=1", "fault=d:0" },
	{ "int with VME, bit set, IOPL 3", MVM, "cd 20",
	  AT_VM TSS0 INTR(e) "cs.base=0 cr4=1 m2:11066=88 m1:1106c=1 iopl=3 fl=",
	  VM_ENTRY "ip=13456 sp=5fdc m4:5ffc=4 m4:5ff8=3 m4:5ff4=1 m4:5ff0=2 m4:5fec=2000 "
	  "m4:5fe8=7000 m4:5fe4=23002 m4:5fe0=1000 m4:5fdc=1002" },
	{ "int with VME, no TSS for it", MVM, "cd 20", "cr4=1 tr.limit=60", "fault=d:0" },
	{ "int with VME, bitmap beyond the TSS", MVM, "cd 20", "cr4=1 m2:11066=1000", "fault=d:0" },

	/* long mode */
	{ "int in 64-bit mode", M64, "cd 20", INTR64(8) "fl=CI sp=7008",
	  "ip=13456 sp=6fd8 m8:6ff8=10 m8:6ff0=7008 m8:6fe8=203 m8:6fe0=28 m8:6fd8=1002 fl=C" },
	{ "trap gate in 64-bit mode", M64, "!3 20:18", TRAP64(8) "fl=I",
	  "ip=13456 sp=6fd0 m8:6ff8=10 m8:6ff0=7000 m8:6fe8=202 m8:6fe0=28 m8:6fd8=1000 "
	  "m8:6fd0=18 fl=I" },
	{ "interrupt to CPL 0 in 64-bit mode", M64, "!0 20", USER64 "m8:11004=6008 " INTR64(8) "fl=",
	  "cpl=0 cs.sel=28 cs.dpl=0 " NULL_SEG("ss", 0) "ip=13456 sp=5fd8 m8:5ff8=23 m8:5ff0=7000 "
	  "m8:5fe8=2 m8:5fe0=2b m8:5fd8=1000" },
	{ "interrupt from compatibility mode", M32, "!0 20",
	  USER "efer=500 m8:11004=6000 " INTR64(8) "fl=",
	  "cpl=0 cs.sel=28 cs.dpl=0 cs.l=1 cs.db=0 mode=4 " NULL_SEG("ss", 0)
	  "ip=13456 sp=5fd8 m8:5ff8=23 m8:5ff0=7000 m8:5fe8=2 m8:5fe0=1b m8:5fd8=1000" },
	{ "interrupt with IST at the same privilege", M64, "!0 20",
	  "m8:12200=00008e0200283456 m8:1102c=5008 fl=",
	  "ip=3456 sp=4fd8 m8:4ff8=10 m8:4ff0=7000 m8:4fe8=2 m8:4fe0=28 m8:4fd8=1000" },
	{ "interrupt with IST 7 from CPL 3", M64, "!0 20",
	  USER64 "m8:12200=00008e0700283456 m8:11054=5000 fl=",
	  "cpl=0 cs.sel=28 cs.dpl=0 " NULL_SEG("ss", 0) "ip=3456 sp=4fd8 m8:4ff8=23 m8:4ff0=7000 "
	  "m8:4fe8=2 m8:4fe0=2b m8:4fd8=1000" },
	{ "handler beyond 4 GiB", M64, "cd 20", "m8:12200=00008e0000283456 m4:12208=ffff8000 fl=",
	  "ip=ffff800000003456 sp=6fd8 m8:6ff8=10 m8:6ff0=7000 m8:6fe8=2 m8:6fe0=28 m8:6fd8=1002" },
	{ "handler not canonical", M64, "cd 20", "m8:12200=00008e0000283456 m4:12208=8000",
	  "fault=d:0" },
	{ "16-bit gate in long mode", M64, "cd 20", "m8:12200=0000860000283456", "fault=d:102" },
	{ "task gate in long mode", M64, "cd 20", "m8:12200=0000850000780000", "fault=d:102" },
	{ "gate beyond the table in long mode", M64, "cd 20", "idt.limit=20e", "fault=d:102" },
	{ "32-bit handler in long mode", M64, "cd 20", "m8:12200=00008e0000083456", "fault=d:8" },
	{ "TSS too short for the IST", M64, "!0 20", "m8:12200=00008e0200283456 tr.limit=32",
	  "fault=a:89" },
	{ "IST not canonical", M64, "!0 20", "m8:12200=00008e0200283456 m8:1102c=900000000000",
	  "fault=c:1" },
	{ "int at CPL 3, gate DPL 0, 64-bit mode", M64, "cd 20", USER64 INTR64(8), "fault=d:102" },
	{ "interrupt in 64-bit mode, stack misaligned", M64, "!0 20", INTR64(8) "sp=7003 fl=",
	  "ip=13456 sp=6fd8 m8:6ff8=10 m8:6ff0=7003 m8:6fe8=2 m8:6fe0=28 m8:6fd8=1000" },
};

CASE_TABLE(interrupt_cases);

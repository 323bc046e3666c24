// SPDX-License-Identifier: GPL-2.0-only
/*
 * IRET in all modes. The format is in cases.h; "sys=800" is the word to the outside that NMIs are
 * taken again.
 */
#include "cases.h"

#define WIDE_GDT	"gdt.limit=1ff "
#define NULL_SEG(s, rpl)						\
	s ".sel=" #rpl " " s ".dpl=" #rpl " " s ".limit=0 " s ".type=0 " s ".s=0 "	\
	s ".present=0 " s ".l=0 " s ".db=0 " s ".g=0 " s ".unusable=1 "
#define NULL_DATA	NULL_SEG("ds", 0) NULL_SEG("es", 0) NULL_SEG("fs", 0) NULL_SEG("gs", 0)
#define OUTER		"cpl=3 cs.sel=1b cs.dpl=3 ss.sel=23 ss.dpl=3 "
#define DONE		"sys=800 "
#define VM_SEG(s)	s ".limit=ffff " s ".type=3 " s ".dpl=3 " s ".db=0 " s ".g=0 "

static const struct emu_case iret_cases[] = {
	/* real mode */
	{ "iret, real", MREAL, "cf", "fl= m2:7000=1234 m2:7002=2000 m2:7004=0ed7",
	  DONE "ip=1234 cs.sel=2000 cs.base=20000 sp=7006 fl=CPAZSIDO" },
	{ "iret, real: TF traps after the next instruction", MREAL, "cf",
	  "fl= m2:7000=1234 m2:7004=0102", DONE "ip=1234 sp=7006 fl=T" },
	{ "iret, real: TF was set", MREAL, "cf", "fl=T m2:7000=1234 m2:7004=2",
	  DONE "ip=1234 sp=7006 fl= trap=4000" },
	{ "iretd, real: RF is loaded, VIP stays", MREAL, "66 cf",
	  "fl=p m4:7000=1234 m4:7004=2000 m4:7008=000b7002",
	  DONE "ip=1234 cs.sel=2000 cs.base=20000 sp=700c fl=NRp iopl=3" },
	{ "iret, real, over the limit", MREAL, "66 cf", "m4:7000=12345", "fault=d" },
	{ "iret, real, stack wraps", MREAL, "cf", "sp=fffe m2:fffe=1234 m2:0=2000 m2:2=2",
	  DONE "ip=1234 cs.sel=2000 cs.base=20000 sp=4" },
	{ "iret, real, stack split by its end", MREAL, "cf", "sp=ffff", "fault=c" },

	/* virtual-8086 mode */
	{ "iret in virtual-8086 mode, IOPL 3", MVM, "cf",
	  "fl= iopl=3 m2:7000=1234 m2:7002=2000 m2:7004=0ed7",
	  DONE "ip=1234 cs.sel=2000 cs.base=20000 sp=7006 fl=CPAZSIDO" },
	{ "iretd in virtual-8086 mode: IOPL, VM, VIF, VIP stay", MVM, "66 cf",
	  "fl=f iopl=3 m4:7000=1234 m4:7004=2000 m4:7008=00150002",
	  DONE "ip=1234 cs.sel=2000 cs.base=20000 sp=700c fl=RKf" },
	{ "iret in virtual-8086 mode, IOPL 0", MVM, "cf", "", "fault=d:0" },
	{ "iret with VME: IF goes to VIF", MVM, "cf",
	  "cr4=1 fl= m2:7000=1234 m2:7002=2000 m2:7004=7203",
	  DONE "ip=1234 cs.sel=2000 cs.base=20000 sp=7006 fl=CNf" },
	{ "iret with VME, IF while VIP", MVM, "cf", "cr4=1 fl=p m2:7004=200", "fault=d:0" },
	{ "iret with VME, TF", MVM, "cf", "cr4=1 fl= m2:7004=100", "fault=d:0" },
	{ "iretd with VME", MVM, "66 cf", "cr4=1", "fault=d:0" },
	{ "iret in virtual-8086 mode, over the limit", MVM, "66 cf", "iopl=3 m4:7000=12345",
	  "fault=d:0" },

	/* protected mode, same privilege */
	{ "iret", M32, "cf", "fl= m4:7000=2000 m4:7004=8 m4:7008=00240ed7",
	  DONE "ip=2000 sp=700c fl=CPAZSIDOKi" },
	{ "iret: RF is loaded", M32, "cf", "fl= m4:7000=2000 m4:7004=8 m4:7008=10002",
	  DONE "ip=2000 sp=700c fl=R" },
	{ "iret, 16-bit: upper flags stay", M32, "66 cf",
	  "fl=Kf m2:7000=2000 m2:7002=8 m2:7004=7002", DONE "ip=2000 sp=7006 fl=NKf iopl=3" },
	{ "iret at CPL 0: IOPL, VIF, VIP", M32, "cf", "fl= m4:7000=2000 m4:7004=8 m4:7008=00183002",
	  DONE "ip=2000 sp=700c fl=fp iopl=3" },
	{ "iret at CPL 3: IF and IOPL stay", M32, "cf",
	  "cpl=3 cs.sel=1b fl= m4:7000=2000 m4:7004=1b m4:7008=00183203",
	  DONE "ip=2000 sp=700c fl=C" },
	{ "iret at CPL 3 with IOPL 3: IF", M32, "cf",
	  "cpl=3 cs.sel=1b fl= iopl=3 m4:7000=2000 m4:7004=1b m4:7008=00000203",
	  DONE "ip=2000 sp=700c fl=CI" },
	{ "iret at CPL 3: VM is ignored", M32, "cf",
	  "cpl=3 cs.sel=1b fl= m4:7000=2000 m4:7004=1b m4:7008=20003", DONE "ip=2000 sp=700c fl=C" },
	{ "iret, NULL", M32, "cf", "m4:7000=2000 m4:7004=0 m4:7008=2", "fault=d:0" },
	{ "iret, data", M32, "cf", "m4:7000=2000 m4:7004=10 m4:7008=2", "fault=d:10" },
	{ "iret, beyond the table", M32, "cf", "m4:7000=2000 m4:7004=a0 m4:7008=2", "fault=d:a0" },
	{ "iret to an inner privilege", M32, "cf",
	  "cpl=3 cs.sel=1b m4:7000=2000 m4:7004=8 m4:7008=2", "fault=d:8" },
	{ "iret, not present", M32, "cf",
	  WIDE_GDT "m8:100a0=00cf1b000000ffff m4:7000=2000 m4:7004=a0 m4:7008=2", "fault=b:a0" },
	{ "iret over the limit: flags stay", M32, "cf",
	  WIDE_GDT "m8:100a0=00409b0000000fff fl= m4:7000=2000 m4:7004=a0 m4:7008=ff", "fault=d:0" },
	{ "iret, stack absent", M32, "cf", "sp=7ff8 m4:7ff8=2000 m4:7ffc=8",
	  "fault=e:0 cr2fault=8000" },
	{ "iret to 16-bit code", M32, "cf",
	  WIDE_GDT "m8:100a0=00009b002000ffff m4:7000=2000 m4:7004=a0 m4:7008=2",
	  DONE "ip=2000 sp=700c cs.sel=a0 cs.base=2000 cs.limit=ffff cs.g=0 cs.db=0 mode=2" },

	/* outer privilege */
	{ "iret to CPL 3", M32, "cf",
	  "fl= m4:7000=2000 m4:7004=1b m4:7008=203 m4:700c=5000 m4:7010=23",
	  DONE OUTER NULL_DATA "ip=2000 sp=5000 fl=CI" },
	{ "iret to CPL 3, 16-bit", M32, "66 cf",
	  "fl= m2:7000=2000 m2:7002=1b m2:7004=203 m2:7006=5000 m2:7008=23",
	  DONE OUTER NULL_DATA "ip=2000 sp=5000 fl=CI" },
	{ "iret to CPL 3, SS is NULL", M32, "cf",
	  "m4:7000=2000 m4:7004=1b m4:7008=203 m4:700c=5000 m4:7010=3", "fault=d:0" },
	{ "iret to CPL 3, SS not its own", M32, "cf",
	  "m4:7000=2000 m4:7004=1b m4:7008=203 m4:700c=5000 m4:7010=10", "fault=d:10" },
	{ "iret to CPL 3, accessed bits", M32, "cf",
	  "fl= m1:1001d=fa m1:10025=f2 m4:7000=2000 m4:7004=1b m4:7008=203 m4:700c=5000 m4:7010=23",
	  DONE OUTER NULL_DATA "ip=2000 sp=5000 fl=CI m1:1001d=fb m1:10025=f3" },

	/* to virtual-8086 mode */
	{ "iret to virtual-8086 mode", M32, "cf",
	  "fl= m4:7000=1234 m4:7004=2000 m4:7008=000a3202 m4:700c=5000 m4:7010=3000 m4:7014=100 "
	  "m4:7018=200 m4:701c=300 m4:7020=400",
	  DONE "ip=1234 sp=5000 cpl=3 mode=1 fl=If vm=1 iopl=3 "
	  VM_SEG("cs") VM_SEG("ss") VM_SEG("ds") VM_SEG("es") VM_SEG("fs") VM_SEG("gs")
	  "cs.sel=2000 cs.base=20000 ss.sel=3000 ss.base=30000 es.sel=100 es.base=1000 ds.sel=200 "
	  "ds.base=2000 fs.sel=300 fs.base=3000 gs.sel=400 gs.base=4000" },
	{ "iret to virtual-8086 mode, over the limit", M32, "cf",
	  "m4:7000=12345 m4:7004=2000 m4:7008=20002", "fault=d:0" },
	{ "iret to virtual-8086 mode, stack absent", M32, "cf",
	  "sp=7fe0 m4:7fe0=1234 m4:7fe4=2000 m4:7fe8=20002", "fault=e:0 cr2fault=8000" },
	{ "iret, 16-bit, cannot go to virtual-8086 mode", M32, "66 cf",
	  "fl= m2:7000=2000 m2:7002=8 m4:7004=20002", DONE "ip=2000 sp=7006 fl=" },

	/* long mode */
	{ "iretq: SS and RSP always", M64, "48 cf",
	  "fl= m8:7000=123456789 m8:7008=28 m8:7010=203 m8:7018=500000000 m8:7020=10",
	  DONE "ip=123456789 sp=500000000 fl=CI" },
	{ "iretq, SS NULL at CPL 0", M64, "48 cf",
	  "fl= m8:7000=2000 m8:7008=28 m8:7010=2 m8:7018=5000 m8:7020=0",
	  DONE NULL_SEG("ss", 0) "ip=2000 sp=5000 fl=" },
	{ "iretd in 64-bit mode", M64, "cf",
	  "fl= m4:7000=2000 m4:7004=28 m4:7008=203 m4:700c=5000 m4:7010=10",
	  DONE "ip=2000 sp=5000 fl=CI" },
	{ "iretq to 64-bit CPL 3", M64, "48 cf",
	  WIDE_GDT "fl= m8:100a0=00affb000000ffff m8:7000=2000 m8:7008=a3 m8:7010=203 m8:7018=5000 "
	  "m8:7020=23",
	  DONE "cpl=3 cs.sel=a3 cs.dpl=3 ss.sel=23 ss.dpl=3 " NULL_DATA "ip=2000 sp=5000 fl=CI" },
	{ "iretq to compatibility mode", M64, "48 cf",
	  "fl= m8:7000=2000 m8:7008=1b m8:7010=203 m8:7018=5000 m8:7020=23",
	  DONE OUTER NULL_DATA "cs.l=0 cs.db=1 mode=3 ip=2000 sp=5000 fl=CI" },
	{ "iretq to compatibility mode, SS NULL", M64, "48 cf",
	  "m8:7000=2000 m8:7008=8 m8:7010=2 m8:7018=5000 m8:7020=0", "fault=d:0" },
	{ "iretq, not canonical", M64, "48 cf",
	  "m8:7000=800000000000 m8:7008=28 m8:7010=2 m8:7018=5000 m8:7020=10", "fault=d:0" },
	{ "iretq, VM is ignored", M64, "48 cf",
	  "fl= m8:7000=2000 m8:7008=28 m8:7010=20002 m8:7018=5000 m8:7020=10",
	  DONE "ip=2000 sp=5000 fl=" },
	{ "iretq with NT", M64, "48 cf", "fl=N", "fault=d:0" },
	{ "iret in compatibility mode with NT", M32, "cf", "fl=N efer=500", "fault=d:0" },
	{ "iret in compatibility mode, same privilege", M32, "cf",
	  "efer=500 fl= m4:7000=2000 m4:7004=8 m4:7008=20003", DONE "ip=2000 sp=700c fl=C" },
	{ "iret from compatibility to 64-bit mode", M32, "cf",
	  "efer=500 fl= m4:7000=2000 m4:7004=28 m4:7008=3",
	  DONE "ip=2000 sp=700c fl=C cs.sel=28 cs.l=1 cs.db=0 mode=4" },
	{ "iretq, stack not canonical", M64, "48 cf", "sp=900000000000", "fault=c:0" },
};

CASE_TABLE(iret_cases);

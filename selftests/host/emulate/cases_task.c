// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hardware task switches. The old task's TSS is the world's at 11000 (selector 88, busy), the new
 * one's at 14000 (selector a0); "!t reason selector:error" is a switch that the CPU has begun: 0
 * CALL, 1 IRET, 2 JMP, 3 a gate. The format is in cases.h.
 */
#include "cases.h"

#define WIDE_GDT	"gdt.limit=1ff "
#define TSS_A0		WIDE_GDT "m8:100a0=0000890140000067 "
#define BUSY_A0		WIDE_GDT "m8:100a0=00008b0140000067 "
#define TSS16_A0	WIDE_GDT "m8:100a0=000081014000002b "

/* The new task: EIP 2000, flags 3, EAX to EDI a0 to a7 but ESP 6000; code 08, data 10 */
#define NEW_REGS	"m4:14020=2000 m4:14024=3 m4:14028=a0 m4:1402c=a1 m4:14030=a2 m4:14034=a3 " \
	"m4:14038=6000 m4:1403c=a5 m4:14040=a6 m4:14044=a7 m4:1401c=5000 "
#define NEW_SEGS	"m4:14048=10 m4:1404c=8 m4:14050=10 m4:14054=10 m4:14058=0 m4:1405c=10 "
#define NEW_TASK	NEW_REGS NEW_SEGS
#define NEW_GPRS	"ax=a0 cx=a1 dx=a2 bx=a3 sp=6000 bp=a5 si=a6 di=a7 "
#define NULL_SEG(s, sel)						\
	s ".sel=" #sel " " s ".dpl=0 " s ".limit=0 " s ".type=0 " s ".s=0 "	\
	s ".present=0 " s ".l=0 " s ".db=0 " s ".g=0 " s ".unusable=1 "
#define NEW_TR		"tr.sel=a0 tr.base=14000 tr.limit=67 tr.type=b cr0=80000019 cr3=5000 "
/* What a switch to it leaves, but for flags */
#define IN_NEW		NEW_GPRS NEW_TR NULL_SEG("fs", 0) "ip=2000 switched=1 "
/* The old task in its TSS: EIP, flags, registers of the world, segments */
#define OLD_REGS	"m4:11028=0 m4:1102c=11111111 m4:11030=22222222 m4:11034=33333333 " \
	"m4:11038=7000 m4:1103c=55555555 m4:11040=66666666 m4:11044=77777777 "
#define OLD_SEGS	"m4:11048=10 m4:1104c=8 m4:11050=10 m4:11054=10 m4:11058=10 m4:1105c=10 "
#define OLD(ip, fl)	"m4:11020=" #ip " m4:11024=" #fl " " OLD_REGS OLD_SEGS
#define FREE_88		"m1:1008d=89 "
#define BUSY_88		"m1:100a5=8b "

/* The same in 16 bits: registers end with DI at 20, then ES CS SS DS LDT */
#define NEW16		"m2:1400e=2000 m2:14010=3 m2:14012=a0 m2:14014=a1 m2:14016=a2 m2:14018=a3 " \
	"m2:1401a=6000 m2:1401c=a5 m2:1401e=a6 m2:14020=a7 m2:14022=10 m2:14024=8 m2:14026=10 "	\
	"m2:14028=10 "
#define IN_NEW16	NEW_GPRS "tr.sel=a0 tr.base=14000 tr.limit=2b tr.type=3 cr0=80000019 "	\
	NULL_SEG("fs", 0) NULL_SEG("gs", 0) "ip=2000 switched=1 "

#define VM_SEG(s)	s ".limit=ffff " s ".type=3 " s ".dpl=3 " s ".db=0 " s ".g=0 "
/* Segments of a new task that were not reached: selectors only */
#define STUB(s, sel)	NULL_SEG(s, sel)

static const struct emu_case task_cases[] = {
	/* by instructions */
	{ "jmp to a TSS", M32, "ea 00 00 00 00 a0 00", TSS_A0 NEW_TASK "fl=Z",
	  OLD(1007, 42) FREE_88 BUSY_88 IN_NEW "fl=C" },
	{ "call to a TSS", M32, "9a 00 00 00 00 a0 00", TSS_A0 NEW_TASK "fl=Z",
	  OLD(1007, 42) BUSY_88 "m2:14000=88 " IN_NEW "fl=CN" },
	{ "jmp through a task gate", M32, "ea 00 00 00 00 a8 00",
	  TSS_A0 NEW_TASK "m8:100a8=0000850000a00000 fl=",
	  OLD(1007, 2) FREE_88 BUSY_88 IN_NEW "fl=C" },
	{ "call through a task gate", M32, "9a 00 00 00 00 a8 00",
	  TSS_A0 NEW_TASK "m8:100a8=0000850000a00000 fl=",
	  OLD(1007, 2) BUSY_88 "m2:14000=88 " IN_NEW "fl=CN" },
	{ "call through a task gate at CPL 3: only the gate's DPL counts", M32,
	  "9a 00 00 00 00 ab 00",
	  TSS_A0 NEW_TASK "m8:100a8=0000e50000a00000 cpl=3 cs.sel=1b ss.sel=23 fl=",
	  OLD(1007, 2) "m2:1104c=1b m2:11050=23 " BUSY_88 "m2:14000=88 " IN_NEW "fl=CN cpl=0 cs.sel=8 "
	  "cs.dpl=0 ss.sel=10 ss.dpl=0 ds.dpl=0 es.dpl=0 gs.dpl=0" },
	{ "iret with NT", M32, "cf", BUSY_A0 NEW_TASK "m2:11000=a0 fl=N",
	  OLD(1001, 2) FREE_88 IN_NEW "fl=C sys=800" },
	{ "int through a task gate", M32, "cd 20", TSS_A0 NEW_TASK "m8:12100=0000850000a00000 fl=",
	  OLD(1002, 2) BUSY_88 "m2:14000=88 " IN_NEW "fl=CN" },
	{ "exception through a task gate: error code", M32, "!3 20:18",
	  TSS_A0 NEW_TASK "m8:12100=0000850000a00000 fl=R",
	  OLD(1000, 10002) BUSY_88 "m2:14000=88 " IN_NEW "fl=CN sp=5ffc m4:5ffc=18" },
	{ "int through a task gate with DPL 0 at CPL 3", M32, "cd 20",
	  TSS_A0 NEW_TASK "m8:12100=0000850000a00000 cpl=3", "fault=d:102" },
	{ "int through a task gate, not present", M32, "cd 20",
	  TSS_A0 NEW_TASK "m8:12100=0000050000a00000", "fault=b:102" },

	/* begun by the CPU */
	{ "switch by JMP", M32, "!t2 a0", TSS_A0 NEW_TASK "fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "fl=C" },
	{ "switch by CALL", M32, "!t0 a0", TSS_A0 NEW_TASK "fl=",
	  OLD(1000, 2) BUSY_88 "m2:14000=88 " IN_NEW "fl=CN" },
	{ "switch by IRET", M32, "!t1 a0", BUSY_A0 NEW_TASK "fl=N",
	  OLD(1000, 2) FREE_88 IN_NEW "fl=C" },
	{ "switch by a gate, error code", M32, "!t3 a0:1234", TSS_A0 NEW_TASK "fl=",
	  OLD(1000, 2) BUSY_88 "m2:14000=88 " IN_NEW "fl=CN sp=5ffc m4:5ffc=1234" },
	{ "switch: local breakpoints go", M32, "!t2 a0", TSS_A0 NEW_TASK "dr7=7ff fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "dr7=6aa fl=C" },
	{ "switch: the T flag traps", M32, "!t2 a0", TSS_A0 NEW_TASK "m2:14064=1 fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "fl=C trap=8000" },
	{ "switch: TF of the old task is no trap", M32, "ea 00 00 00 00 a0 00",
	  TSS_A0 NEW_TASK "fl=T", OLD(1007, 102) FREE_88 BUSY_88 IN_NEW "fl=C" },
	{ "switch: RF comes from the TSS", M32, "!t2 a0", TSS_A0 NEW_TASK "m4:14024=10003 fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "fl=CR" },
	{ "switch without paging: CR3 stays", M32, "!t2 a0", TSS_A0 NEW_TASK "cr0=11 fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "fl=C cr0=19 cr3=3000" },
	{ "switch with an LDT", M32, "!t2 a0", TSS_A0 NEW_TASK "m2:14060=68 fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "fl=C ldtr.sel=68 ldtr.limit=7 ldtr.type=2 "
	  "ldtr.present=1 ldtr.unusable=0" },
	{ "switch to CPL 3", M32, "!t2 a0",
	  TSS_A0 NEW_TASK "m2:14048=23 m2:1404c=1b m2:14050=23 m2:14054=23 m2:1405c=23 fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "fl=C cpl=3 cs.sel=1b cs.dpl=3 ss.sel=23 ss.dpl=3 "
	  "ds.sel=23 ds.dpl=3 es.sel=23 es.dpl=3 gs.sel=23 gs.dpl=3" },
	{ "switch to 16-bit code", M32, "!t2 a0",
	  TSS_A0 NEW_TASK "m8:100a8=00009a002000ffff m2:1404c=a8 fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "fl=C cs.sel=a8 cs.base=2000 cs.limit=ffff cs.g=0 "
	  "cs.db=0 mode=2 m1:100ad=9b" },
	{ "switch to virtual-8086 mode", M32, "!t2 a0",
	  TSS_A0 NEW_TASK "m4:14024=20003 fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 NEW_GPRS NEW_TR "ip=2000 switched=1 vm=1 mode=1 cpl=3 fl=C "
	  VM_SEG("cs") VM_SEG("ss") VM_SEG("ds") VM_SEG("es") VM_SEG("fs") VM_SEG("gs")
	  "cs.base=80 ss.base=100 ds.base=100 es.base=100 gs.base=100 fs.sel=0" },
	{ "switch from virtual-8086 mode", MVM, "!t3 a0", TSS_A0 NEW_TASK "fl=",
	  "m4:11020=1000 m4:11024=20002 " OLD_REGS "m4:11048=0 m4:1104c=0 m4:11050=0 m4:11054=0 "
	  "m4:11058=0 m4:1105c=0 " BUSY_88 "m2:14000=88 " IN_NEW "fl=CN vm=0 mode=3 cpl=0 "
	  "cs.sel=8 cs.type=b cs.dpl=0 cs.limit=ffffffff cs.db=1 cs.g=1 "
	  "ss.sel=10 ss.type=3 ss.dpl=0 ss.limit=ffffffff ss.db=1 ss.g=1 "
	  "ds.sel=10 ds.type=3 ds.dpl=0 ds.limit=ffffffff ds.db=1 ds.g=1 "
	  "es.sel=10 es.type=3 es.dpl=0 es.limit=ffffffff es.db=1 es.g=1 "
	  "gs.sel=10 gs.type=3 gs.dpl=0 gs.limit=ffffffff gs.db=1 gs.g=1" },

	/* 16-bit TSSs */
	{ "switch to a 16-bit TSS", M32, "!t2 a0", TSS16_A0 NEW16 "fl=",
	  OLD(1000, 2) FREE_88 "m1:100a5=83 " IN_NEW16 "fl=C" },
	{ "call to a 16-bit TSS, error code of two bytes", M32, "!t3 a0:1234", TSS16_A0 NEW16 "fl=",
	  OLD(1000, 2) "m1:100a5=83 m2:14000=88 " IN_NEW16 "fl=CN sp=5ffe m2:5ffe=1234" },
	{ "switch from a 16-bit TSS", M32, "!t2 a0", TSS_A0 NEW_TASK "tr.type=3 m1:1008d=83 fl=",
	  "m2:1100e=1000 m2:11010=2 m2:11012=0 m2:11014=1111 m2:11016=2222 m2:11018=3333 "
	  "m2:1101a=7000 m2:1101c=5555 m2:1101e=6666 m2:11020=7777 m2:11022=10 m2:11024=8 "
	  "m2:11026=10 m2:11028=10 m1:1008d=81 " BUSY_88 IN_NEW "fl=C" },

	/* refused before the switch: the old task is unchanged */
	{ "jmp to a TSS, DPL below CPL", M32, "ea 00 00 00 00 a0 00", TSS_A0 "cpl=3",
	  "fault=d:a0" },
	{ "jmp to a TSS, DPL below RPL", M32, "ea 00 00 00 00 a3 00", TSS_A0, "fault=d:a0" },
	{ "jmp to a busy TSS", M32, "ea 00 00 00 00 a0 00", BUSY_A0, "fault=d:a0" },
	{ "jmp to a TSS, not present", M32, "ea 00 00 00 00 a0 00",
	  WIDE_GDT "m8:100a0=0000090140000067", "fault=b:a0" },
	{ "jmp to a TSS, too short", M32, "ea 00 00 00 00 a0 00",
	  WIDE_GDT "m8:100a0=0000890140000066", "fault=a:a0" },
	{ "jmp to a 16-bit TSS, too short", M32, "ea 00 00 00 00 a0 00",
	  WIDE_GDT "m8:100a0=000081014000002a", "fault=a:a0" },
	{ "jmp to a TSS in the LDT", M32, "ea 00 00 00 00 7c 00",
	  "ldtr.unusable=0 ldtr.base=10000 ldtr.limit=ff", "fault=d:7c" },
	{ "task gate, DPL below CPL", M32, "ea 00 00 00 00 a8 00",
	  TSS_A0 "m8:100a8=0000850000a00000 cpl=3", "fault=d:a8" },
	{ "task gate, not present", M32, "ea 00 00 00 00 a8 00",
	  TSS_A0 "m8:100a8=0000050000a00000", "fault=b:a8" },
	{ "task gate to data", M32, "ea 00 00 00 00 a8 00",
	  TSS_A0 "m8:100a8=0000850000100000", "fault=d:10" },
	{ "task gate to a busy TSS", M32, "ea 00 00 00 00 a8 00",
	  BUSY_A0 "m8:100a8=0000850000a00000", "fault=d:a0" },
	{ "gate of the IDT to a busy TSS: EXT", M32, "!t3 a0", BUSY_A0, "fault=d:a1" },
	{ "iret with NT, TSS not busy", M32, "cf", TSS_A0 "m2:11000=a0 fl=N", "fault=a:a0" },
	{ "iret with NT, link is NULL", M32, "cf", "m2:11000=0 fl=N", "fault=a:0" },
	{ "iret with NT, link beyond the table", M32, "cf", "m2:11000=a0 fl=N", "fault=a:a0" },
	{ "iret with NT, not present", M32, "cf",
	  WIDE_GDT "m8:100a0=00000b0140000067 m2:11000=a0 fl=N", "fault=b:a0" },
	{ "new TSS absent", M32, "ea 00 00 00 00 a0 00", WIDE_GDT "m8:100a0=0000890080000067",
	  "fault=e:0 cr2fault=8000" },
	{ "new TSS read-only: the link", M32, "9a 00 00 00 00 a0 00",
	  WIDE_GDT "m8:100a0=0000890090000067", "fault=e:3 cr2fault=9000" },
	{ "new TSS half absent", M32, "ea 00 00 00 00 a0 00",
	  WIDE_GDT "m8:100a0=000089007fc00067", "fault=e:0 cr2fault=8000" },
	{ "old TSS read-only", M32, "ea 00 00 00 00 a0 00", TSS_A0 NEW_TASK "tr.base=9000",
	  "fault=e:3 cr2fault=9020" },
	{ "old TSS too short", M32, "ea 00 00 00 00 a0 00", TSS_A0 NEW_TASK "tr.limit=5e",
	  "fault=a:88" },
	{ "TSS in a device", M32, "ea 00 00 00 00 a0 00",
	  WIDE_GDT "m8:100a0=00008900a0000067", "unhandled" },
	{ "switch loses the race for the busy bit", M32, "!t2 a0", TSS_A0 NEW_TASK "lose=1 fl=",
	  OLD(1000, 2) "m1:1008d=9 " BUSY_88 IN_NEW "fl=C" },

	/* faults of the new task */
	{ "new task: LDT selector of the LDT", M32, "!t2 a0", TSS_A0 NEW_TASK "m2:14060=6c fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "fl=C fault=a:6c ldtr.sel=6c cs.limit=0 cs.g=0 ss.limit=0 ss.g=0 " STUB("ds", 10)
	  STUB("es", 10) STUB("gs", 10) },
	{ "new task: LDT is no LDT", M32, "!t2 a0", TSS_A0 NEW_TASK "m2:14060=10 fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "fl=C fault=a:10 ldtr.sel=10 cs.limit=0 cs.g=0 ss.limit=0 ss.g=0 " STUB("ds", 10)
	  STUB("es", 10) STUB("gs", 10) },
	{ "new task: CS is data", M32, "!t2 a0", TSS_A0 NEW_TASK "m2:1404c=10 fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "fl=C fault=a:10 " STUB("ds", 10)
	  STUB("es", 10) STUB("gs", 10) "cs.sel=10 cs.limit=0 cs.g=0 ss.limit=0 ss.g=0" },
	{ "new task: CS is NULL", M32, "!t2 a0", TSS_A0 NEW_TASK "m2:1404c=0 fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "fl=C fault=a:0 " STUB("ds", 10)
	  STUB("es", 10) STUB("gs", 10) "cs.sel=0 cs.limit=0 cs.g=0 ss.limit=0 ss.g=0" },
	{ "new task: CS with another DPL", M32, "!t2 a0", TSS_A0 NEW_TASK "m2:1404c=18 fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "fl=C fault=a:18 " STUB("ds", 10)
	  STUB("es", 10) STUB("gs", 10) "cs.sel=18 cs.limit=0 cs.g=0 ss.limit=0 ss.g=0" },
	{ "new task: CS not present", M32, "!t2 a0",
	  TSS_A0 NEW_TASK "m8:100a8=00cf1b000000ffff m2:1404c=a8 fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "fl=C fault=b:a8 " STUB("ds", 10)
	  STUB("es", 10) STUB("gs", 10) "cs.sel=a8 cs.limit=0 cs.g=0 ss.limit=0 ss.g=0" },
	{ "new task: SS is NULL", M32, "!t3 a0", TSS_A0 NEW_TASK "m2:14050=0 fl=",
	  OLD(1000, 2) BUSY_88 "m2:14000=88 " IN_NEW "fl=CN fault=a:1 " STUB("ds", 10)
	  STUB("es", 10) STUB("gs", 10) "ss.sel=0 ss.limit=0 ss.g=0" },
	{ "new task: SS not present", M32, "!t2 a0", TSS_A0 NEW_TASK "m2:14050=38 fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "fl=C fault=c:38 " STUB("ds", 10)
	  STUB("es", 10) STUB("gs", 10) "ss.sel=38 ss.limit=0 ss.g=0" },
	{ "new task: DS not present", M32, "!t2 a0", TSS_A0 NEW_TASK "m2:14054=38 fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "fl=C fault=b:38 " STUB("ds", 38) STUB("gs", 10) },
	{ "new task: FS execute-only", M32, "!t2 a0", TSS_A0 NEW_TASK "m2:14058=48 fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "fl=C fault=a:48 " STUB("fs", 48) STUB("gs", 10) },
	{ "new task: GS beyond the table", M32, "!t2 a0", TSS_A0 NEW_TASK "m2:1405c=200 fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "fl=C fault=a:200 " STUB("gs", 200) },
	{ "new task: EIP over the limit", M32, "!t2 a0",
	  TSS_A0 NEW_TASK "m8:100a8=00409b0000000fff m2:1404c=a8 fl=",
	  OLD(1000, 2) FREE_88 BUSY_88 IN_NEW "fl=C fault=d:0 cs.sel=a8 cs.limit=fff cs.g=0" },
	{ "new task: no room for the error code", M32, "!t3 a0:18",
	  TSS_A0 NEW_TASK "m8:100a8=00cf91000000ffff m8:100a8=0040930000000fff m2:14050=a8 fl=",
	  OLD(1000, 2) BUSY_88 "m2:14000=88 " IN_NEW "fl=CN fault=c:1 ss.sel=a8 ss.limit=fff ss.g=0" },
	{ "new task: stack absent for the error code", M32, "!t3 a0:18",
	  TSS_A0 NEW_TASK "m4:14038=9000 fl=",
	  OLD(1000, 2) BUSY_88 "m2:14000=88 " IN_NEW "sp=9000 fl=CN fault=e:2 cr2fault=8ffc" },
};

CASE_TABLE(task_cases);

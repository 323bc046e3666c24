// SPDX-License-Identifier: GPL-2.0-only
/*
 * FXSAVE and FXRSTOR. Before each case the x87 part of the area would hold the bytes 0, 1, 2 and so on, but for MXCSR
 * and its mask; vector register n holds 10 * n, 10 * n + 1 and so on. The format is in cases.h.
 */
#include "cases.h"

/* The head with pointers of 64 bits, and with pointers of 32 */
#define HEAD64	"000102030405060708090a0b0c0d0e0f1011121314151617801f0000ffff0000"
#define HEAD	"000102030405060708090a0b000000001011121300000000801f0000ffff0000"
#define ST \
	"202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f" \
	"404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f" \
	"606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f" \
	"808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
#define XMM8 \
	"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f" \
	"202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f" \
	"404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f" \
	"606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"
#define XMM16 \
	"808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f" \
	"a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf" \
	"c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf" \
	"e0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"

/* What FXRSTOR finds in memory, and its head where the pointers have 32 bits */
#define OTHER_HEAD	"40474e555c636a71787f868d949ba2a9b0b7bec5cc434a51801f0000ffff0000"
#define OTHER_HEAD32	"40474e555c636a71787f868d00000000b0b7bec500000000801f0000ffff0000"
#define OTHER_ST \
	"90979ea5acb3bac1c8cf464d545b626970777e858c939aa1a8afb6bdc4cb4249" \
	"50575e656c737a81888f969da4abb2b9c0c7ce454c535a61686f767d848b9299" \
	"a0a7aeb5bcc3ca41484f565d646b727980878e959ca3aab1b8bfc6cd444b5259" \
	"60676e757c838a91989fa6adb4bbc2c940474e555c636a71787f868d949ba2a9"
#define OTHER_XMM \
	"b0b7bec5cc434a51585f666d747b828990979ea5acb3bac1c8cf464d545b6269" \
	"70777e858c939aa1a8afb6bdc4cb424950575e656c737a81888f969da4abb2b9" \
	"c0c7ce454c535a61686f767d848b9299a0a7aeb5bcc3ca41484f565d646b7279" \
	"80878e959ca3aab1b8bfc6cd444b525960676e757c838a91989fa6adb4bbc2c9" \
	"40474e555c636a71787f868d949ba2a9b0b7bec5cc434a51585f666d747b8289" \
	"90979ea5acb3bac1c8cf464d545b626970777e858c939aa1a8afb6bdc4cb4249" \
	"50575e656c737a81888f969da4abb2b9c0c7ce454c535a61686f767d848b9299" \
	"a0a7aeb5bcc3ca41484f565d646b727980878e959ca3aab1b8bfc6cd444b5259"
#define LOADED8 \
	" x0=b0b7bec5cc434a51585f666d747b8289" \
	" x1=90979ea5acb3bac1c8cf464d545b6269" \
	" x2=70777e858c939aa1a8afb6bdc4cb4249" \
	" x3=50575e656c737a81888f969da4abb2b9" \
	" x4=c0c7ce454c535a61686f767d848b9299" \
	" x5=a0a7aeb5bcc3ca41484f565d646b7279" \
	" x6=80878e959ca3aab1b8bfc6cd444b5259" \
	" x7=60676e757c838a91989fa6adb4bbc2c9"
#define LOADED16 \
	" x8=40474e555c636a71787f868d949ba2a9" \
	" x9=b0b7bec5cc434a51585f666d747b8289" \
	" x10=90979ea5acb3bac1c8cf464d545b6269" \
	" x11=70777e858c939aa1a8afb6bdc4cb4249" \
	" x12=50575e656c737a81888f969da4abb2b9" \
	" x13=c0c7ce454c535a61686f767d848b9299" \
	" x14=a0a7aeb5bcc3ca41484f565d646b7279" \
	" x15=80878e959ca3aab1b8bfc6cd444b5259"

static const struct emu_case fx_cases[] = {
	{ "fxsave64 [mem]", M64, "48 0f ae 03", "bx=2000", "mb:2000=" HEAD64 ST XMM8 XMM16 },
	{ "fxsave [mem], 64-bit code: pointers of 32 bits", M64, "0f ae 03", "bx=2000", "mb:2000=" HEAD ST XMM8 XMM16 },
	{ "fxsave [mem], 32-bit code: half the vector registers", M32, "0f ae 03", "bx=2000", "mb:2000=" HEAD ST XMM8 },
	{ "fxsave [mem], 16-bit code", M16, "0f ae 07", "bx=2000", "mb:2000=" HEAD ST XMM8 },
	{ "fxsave64 [mem] without CR4.OSFXSR", M64, "48 0f ae 03", "bx=2000 cr4=20", "mb:2000=" HEAD64 ST },
	{ "fxsave64 [mem] with EFER.FFXSR, in the kernel", M64, "48 0f ae 03", "bx=2000 efer=4d00", "mb:2000=" HEAD64 ST },
	{ "fxsave64 [mem] with EFER.FFXSR, in a program", M64, "48 0f ae 03", "bx=2000 efer=4d00 cpl=3",
	  "mb:2000=" HEAD64 ST XMM8 XMM16 },
	{ "fxsave64 over a page's end", M64, "48 0f ae 03", "bx=2f10", "mb:2f10=" HEAD64 ST XMM8 XMM16 },
	{ "fxsave into an absent page", M64, "48 0f ae 03", "bx=7f10", "fault=e:2 cr2fault=8000" },
	{ "fxsave [misaligned]", M64, "0f ae 03", "bx=2008", "fault=d:0" },
	{ "fxsave [device]", M64, "0f ae 03", "bx=a000", "unhandled" },
	{ "fxsave with CR0.TS", M64, "0f ae 03", "bx=2000 cr0=80000019", "fault=7" },
	{ "fxsave with CR0.EM", M64, "0f ae 03", "bx=2000 cr0=80000015", "fault=7" },
	{ "fxsave beyond the limit", M32, "0f ae 03", "bx=2000 ds.limit=21fe", "fault=d:0" },
	{ "lock fxsave", M64, "f0 0f ae 03", "bx=2000", "fault=6" },
	{ "66 fxsave", M64, "66 0f ae 03", "bx=2000", "fault=6" },
	{ "f3 fxsave", M64, "f3 0f ae 03", "bx=2000", "fault=6" },
	{ "f2 fxsave", M64, "f2 0f ae 03", "bx=2000", "fault=6" },

	{ "fxrstor64 [mem]", M64, "48 0f ae 0b", "bx=2000 mb:2000=" OTHER_HEAD OTHER_ST OTHER_XMM,
	  "fx=" OTHER_HEAD OTHER_ST LOADED8 LOADED16 },
	{ "fxrstor [mem], 64-bit code", M64, "0f ae 0b", "bx=2000 mb:2000=" OTHER_HEAD OTHER_ST OTHER_XMM,
	  "fx=" OTHER_HEAD32 OTHER_ST LOADED8 LOADED16 },
	{ "fxrstor [mem], 32-bit code", M32, "0f ae 0b", "bx=2000 mb:2000=" OTHER_HEAD OTHER_ST OTHER_XMM,
	  "fx=" OTHER_HEAD32 OTHER_ST LOADED8 },
	{ "fxrstor64 [mem] without CR4.OSFXSR: MXCSR stays, too", M64, "48 0f ae 0b",
	  "bx=2000 cr4=20 mb:2000=" OTHER_HEAD OTHER_ST OTHER_XMM " m4:2018=1fbf", "fx=" OTHER_HEAD OTHER_ST },
	{ "fxrstor64 over a page's end", M64, "48 0f ae 0b", "bx=2f10 mb:2f10=" OTHER_HEAD OTHER_ST OTHER_XMM,
	  "fx=" OTHER_HEAD OTHER_ST LOADED8 LOADED16 },
	{ "fxrstor, a reserved bit of MXCSR", M64, "48 0f ae 0b", "bx=2000 m4:2018=10000", "fault=d:0" },
	{ "fxrstor from an absent page", M64, "48 0f ae 0b", "bx=7f10", "fault=e:0 cr2fault=8000" },
	{ "fxrstor [misaligned]", M64, "0f ae 0b", "bx=2004", "fault=d:0" },
	{ "fxrstor [device]", M64, "0f ae 0b", "bx=a000", "unhandled" },
	{ "fxrstor with CR0.TS", M64, "0f ae 0b", "bx=2000 cr0=80000019", "fault=7" },
	{ "lock fxrstor", M64, "f0 0f ae 0b", "bx=2000", "fault=6" },
	{ "66 fxrstor", M64, "66 0f ae 0b", "bx=2000", "fault=6" },
	{ "f3 fxrstor", M64, "f3 0f ae 0b", "bx=2000", "fault=6" },
	{ "f2 fxrstor", M64, "f2 0f ae 0b", "bx=2000", "fault=6" },
};

CASE_TABLE(fx_cases);

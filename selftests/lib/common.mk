# SPDX-License-Identifier: GPL-2.0-only
# What api/ and guest/ share: flags, the helper library, and the kernel's own kselftest rules. KSFT_DIR is a
# kernel's tools/testing/selftests; OUTPUT, CC, CFLAGS, USERCFLAGS and the rest are lib.mk's.
ROOT := $(abspath $(dir $(lastword $(MAKEFILE_LIST)))/../..)
LIBDIR := $(ROOT)/selftests/lib
KSFT_DIR ?= $(ROOT)/build/kselftest
OUTPUT ?= $(ROOT)/build/selftests/$(notdir $(CURDIR))

ifeq ($(wildcard $(KSFT_DIR)/lib.mk),)
$(error no lib.mk in KSFT_DIR=$(KSFT_DIR): point KSFT_DIR at a kernel's tools/testing/selftests)
endif

CFLAGS += -std=gnu11 -O2 -g -Wall -Wextra -Wno-sign-compare -Wno-unused-parameter -Wno-clobbered \
	-Wno-missing-field-initializers -I$(LIBDIR) -I$(ROOT)/uapi -I$(KSFT_DIR)
LDFLAGS += -Wl,--wrap=alarm
LDLIBS += -lpthread
LOCAL_HDRS := $(wildcard $(LIBDIR)/*.h $(ROOT)/uapi/linux/*.h)
EXTRA_CLEAN += $(OUTPUT)/*.o $(OUTPUT)/libvmtest.a

include $(KSFT_DIR)/lib.mk

VMTEST_OBJS := $(patsubst $(LIBDIR)/%.c,$(OUTPUT)/%.o,$(wildcard $(LIBDIR)/*.c))
$(OUTPUT)/%.o: $(LIBDIR)/%.c $(LOCAL_HDRS)
	@mkdir -p $(OUTPUT)
	$(CC) $(CFLAGS) -c $< -o $@
$(OUTPUT)/libvmtest.a: $(VMTEST_OBJS)
	$(AR) rcs $@ $^
$(TEST_GEN_PROGS) $(TEST_GEN_PROGS_EXTENDED): $(OUTPUT)/libvmtest.a

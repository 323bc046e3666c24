# SPDX-License-Identifier: GPL-2.0-only
#
# The front door.  Kbuild says what keel.ko is made of, userspace/Makefile what keel is; this file
# says how a person gets at both: 'make help'.

MAKEFLAGS += --no-print-directory
BUILD := $(CURDIR)/build
VERSION := $(shell sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' dkms.conf)
PREFIX ?= /usr/local

# What a user may put into these is for a shell, so make must neither expand it nor hand it on to
# other makes, which would.  The scripts get the very bytes, by way of the environment.
ifneq ($(origin CMD),undefined)
export KEEL_CMD := $(value CMD)
endif
export KEEL_RUN_ARGS := $(value RUN_ARGS)
export KEEL_MODARGS := $(value MODARGS)
export KEEL_TEST := $(value TEST)
export KEEL_LINE := $(value LINE)
export KEEL_COVER := $(value COVER)
export KEEL_HV := $(value HV)
export KEEL_HOST := $(value HOST)
export KEEL_KREL := $(if $(DEBUG),$(if $(filter kcsan,$(value DEBUG)),kcsan,debug),$(value KREL))
unexport CMD RUN_ARGS MODARGS TEST LINE COVER HV HOST KREL
export DEPS
handed_on := $(strip $(foreach name,V W C CC LD LLVM CFLAGS LDFLAGS, \
	$(if $(filter command,$(origin $(name))),$(name)='$($(name))')))
MAKEOVERRIDES :=
jobs := $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))

# The running kernel's headers, else the newest that are installed.
running := $(wildcard /lib/modules/$(shell uname -r)/build)
newest := $(shell ls -d /lib/modules/*/build 2>/dev/null | sort -V | tail -n 1)
KDIR ?= $(or $(running),$(newest))
host_kdir = /lib/modules/$(shell scripts/get-kernel --release)/build

# Not kbuild's clean, which would go through build/ too.
define clean_module
find module \( -name '*.o' -o -name '*.gcno' -o -name '.*.cmd' -o -name '.*.d' \) -delete && \
	rm -f *.o *.ko *.mod *.mod.c .*.cmd .*.o Module.symvers modules.order
endef

# Build keel.ko against the headers in $(1).  The objects of another kernel are no good for it.
define build_module
	mkdir -p $(BUILD) && \
	if [ "$$(cat $(BUILD)/module.kdir 2>/dev/null)" != "$$(realpath $(1))" ]; then \
		$(clean_module) && realpath $(1) >$(BUILD)/module.kdir || exit; \
	fi && \
	echo "building keel.ko for $$(basename $$(realpath $(1)))" >&2 && \
	$(MAKE) $(jobs) -C $(1) M=$(CURDIR) $(handed_on) modules
endef

build_userspace = echo "building the client" >&2 && \
	$(MAKE) $(jobs) $(if $(V),,-s) -C userspace O=$(BUILD)/userspace $(handed_on)

sudo := $(if $(filter-out 0,$(shell id -u)),sudo)

all: module userspace

module:
	@if ! [ -d "$(KDIR)" ]; then \
		echo "no kernel headers: give KDIR=, or install linux-headers-amd64" >&2; exit 1; fi
	@$(call build_module,$(KDIR))

userspace:
	@$(build_userspace)

# --- in the emulated test host ------------------------------------------------------------------

# Make itself ends with 2 when a recipe fails; 'run' is to end with the command's status, which is
# what the loaded function is for.
ifneq ($(filter run,$(MAKECMDGOALS)),)
ifeq ($(findstring n,$(filter-out -%,$(firstword $(MAKEFLAGS)))),)
-load $(BUILD)/make-exit.so(make_exit_gmk_setup)
endif
endif

run_status := $(BUILD)/run.status.$(shell echo $$PPID)

$(BUILD)/make-exit.so: scripts/make-exit.c
	@scripts/deps run
	@mkdir -p $(BUILD)
	@$(CC) -shared -fPIC -O2 -Wall -o $@ $<

run: run-command
	@$(foreach status,$(shell cat $(run_status); rm -f $(run_status)), \
		$(exit-with $(status)) exit $(status))

run-command: host-build
	@scripts/run-guest $(run_status)

# All that talk to stdout here is the command.
host-build: deps-run
	@scripts/get-kernel
	@$(if $(filter kvm,$(value HV)),,{ $(call build_module,$(host_kdir)); } >&2)
	@{ $(build_userspace); } >&2

check: deps-check
	@scripts/get-kernel
	@scripts/get-kselftest
	@scripts/get-clients
	+@MAKE='$(MAKE)' KDIR=$(host_kdir) selftests/testhost/check

# Other people's tests of the ABI: KVM's own.
kvm-selftests: deps-check
	@scripts/get-kernel
	@scripts/get-kselftest --kvm
	@$(if $(filter kvm,$(value HV)),,{ $(call build_module,$(host_kdir)); } >&2)
	@selftests/testhost/kvm-selftests

# libvirt as the client, and QEMU: both the one that is installed and that of Debian's own suite.
check-clients: deps-check
	@scripts/get-kernel
	@scripts/get-kselftest
	@scripts/get-clients --all
	@{ $(call build_module,$(host_kdir)); } >&2
	@$(MAKE) -s -C selftests/linux KSFT_DIR=$(BUILD)/kselftest OUTPUT=$(BUILD)/selftests/linux
	@selftests/testhost/testhost --hv keel --modargs kvm_node=1 -- selftests/linux/libvirt.sh
	@selftests/testhost/testhost --hv keel --modargs kvm_node=1 -- selftests/linux/qemu_clients.py '*'
	@selftests/testhost/testhost --host vmx --hv keel --modargs kvm_node=1 --put selftests/lib/tap.sh \
		--put $(BUILD)/clients/ovmf --put /usr/bin/qemu-system-x86_64 --put /usr/share/qemu --put /usr/share/seabios \
		-- selftests/linux/ovmf.sh

# DKMS builds, installs and removes the module. The compiler runs in the emulated machine: most of an hour.
check-dkms: deps-check
	@scripts/get-kernel
	@scripts/get-kselftest
	@scripts/get-clients --dkms
	@{ $(call build_module,$(host_kdir)); } >&2
	@{ $(build_userspace); } >&2
	@$(MAKE) -s -C selftests/linux KSFT_DIR=$(BUILD)/kselftest OUTPUT=$(BUILD)/selftests/linux
	@selftests/testhost/testhost --hv keel --timeout 3600 -- selftests/linux/dkms.sh

# A client that means harm: every ioctl with generated arguments.
abi-fuzz: deps-check
	@scripts/get-kernel
	@scripts/get-kselftest
	@{ $(call build_module,$(host_kdir)); } >&2
	@$(MAKE) -s -C selftests/api KSFT_DIR=$(BUILD)/kselftest OUTPUT=$(BUILD)/selftests/api \
		$(BUILD)/selftests/api/fuzz
	@selftests/testhost/testhost --hv keel -- $(BUILD)/selftests/api/fuzz $(or $(COUNT),1000000) $(or $(SEED),1)

# What a guest may do: random bytes, with nested paging and with shadow paging.
fuzz-guest: nested := $(if $(filter vmx,$(value HOST)),ept,npt)
fuzz-guest: deps-check
	@scripts/get-kernel
	@scripts/get-kselftest
	@{ $(call build_module,$(host_kdir)); } >&2
	@$(MAKE) -s -C selftests/guest KSFT_DIR=$(BUILD)/kselftest OUTPUT=$(BUILD)/selftests/guest \
		$(BUILD)/selftests/guest/random
	@scripts/fuzz-guest $(nested)=1 $(or $(COUNT),100000) $(or $(SEED),1) $(FIRST)
	@scripts/fuzz-guest $(nested)=0 $(or $(COUNT),100000) $(or $(SEED),1) $(FIRST)

# Load on the host, and what a host goes through otherwise; STORM= some of them.
storm: deps-check
	@scripts/get-kernel
	@scripts/get-kselftest
	@{ $(call build_module,$(host_kdir)); } >&2
	@$(MAKE) -s -C selftests/storm KSFT_DIR=$(BUILD)/kselftest OUTPUT=$(BUILD)/selftests/storm
	@selftests/testhost/testhost --timeout 3000 --hv keel -- env KEEL_KO=$(CURDIR)/keel.ko \
		$(BUILD)/selftests/storm/storm $(if $(COUNT),-n $(COUNT)) $(STORM)

# What the kernel finds that comes after the host's: a crash dump's, or one by kexec.
check-crash: deps-check
	@scripts/get-kernel
	@scripts/get-kselftest
	@if [ -n "$$KEEL_KREL" ]; then \
		scripts/build-module "$$KEEL_KREL" && KEEL_SERIES=$$KEEL_KREL scripts/get-kernel; \
	else $(call build_module,$(host_kdir)); fi >&2
	@$(MAKE) -s -C selftests/crash KSFT_DIR=$(BUILD)/kselftest OUTPUT=$(BUILD)/selftests/crash
	@selftests/crash/run "$${KEEL_HOST:-svm}"

bench: deps-check
	@scripts/get-kernel
	@scripts/get-kselftest
	@{ $(call build_module,$(host_kdir)); } >&2
	@{ $(build_userspace); } >&2
	@for part in bench linux; do \
		$(MAKE) -s -C selftests/$$part KSFT_DIR=$(BUILD)/kselftest OUTPUT=$(BUILD)/selftests/$$part >&2 || exit; \
	done
	@selftests/bench/run

# Worse than selftests/bench/baseline.json?
bench-compare: bench
	@selftests/bench/compare selftests/bench/baseline.json $(BUILD)/bench.json

# The emulator against this machine's CPU, what its tests reach, and coverage-guided fuzzing of it.

emulate := $(MAKE) -s -C selftests/host/emulate OUTPUT=$(BUILD)/selftests/host/emulate

fuzz-diff:
	@scripts/deps build
	@$(emulate) $(if $(COUNT),COUNT=$(COUNT)) $(if $(SEED),SEED=$(SEED)) fuzz-diff

cover:
	@scripts/deps build
	@$(emulate) cover

fuzz-cover: deps-fuzz
	@$(emulate) $(if $(SECONDS),SECONDS=$(SECONDS)) fuzz-cover

# Coverage-guided fuzzing of a device model by a hostile driver.
fuzz-devices: deps-fuzz
	@$(MAKE) -s -C selftests/host/userspace OUTPUT=$(BUILD)/selftests/host/userspace \
		$(if $(DEVICE),DEVICE=$(DEVICE)) $(if $(SECONDS),SECONDS=$(SECONDS)) fuzz

# Exits and instructions for each packet, by the network cards that there are.
bench-net: host-build
	@scripts/bench-net

# What a fork costs in each way of paging; who writes what to swap when a guest and its host both do.
bench-fork bench-paging: deps-check
	@scripts/get-kernel
	@scripts/get-kselftest
	@{ $(call build_module,$(host_kdir)); } >&2
	@{ $(build_userspace); } >&2
	@$(MAKE) -s -C selftests/bench KSFT_DIR=$(BUILD)/kselftest OUTPUT=$(BUILD)/selftests/bench >&2
	@scripts/$@

deps: deps-check
deps-%:
	@scripts/deps $*

# --- on this machine ----------------------------------------------------------------------------

load: module
	$(sudo) insmod keel.ko $$KEEL_MODARGS

unload:
	$(sudo) rmmod keel

install: all
	$(MAKE) -C $(KDIR) M=$(CURDIR) CONFIG_MODULE_SIG_ALL= \
		$(if $(DESTDIR),INSTALL_MOD_PATH=$(DESTDIR)) modules_install
	$(if $(DESTDIR),,depmod -a $(shell $(MAKE) -s -C $(KDIR) kernelrelease))
	$(call install_rest)

# The userspace, the header and the udev rule; the module is DKMS's.
install-dkms: userspace
	mkdir -p $(DESTDIR)/usr/src/keel-$(VERSION)
	cp -r Kbuild dkms.conf COPYING module uapi $(DESTDIR)/usr/src/keel-$(VERSION)/
	find $(DESTDIR)/usr/src/keel-$(VERSION) -name '*.o' -delete -o -name '.*.cmd' -delete
	$(if $(DESTDIR),,dkms install --force keel/$(VERSION))
	$(call install_rest)

define install_rest
	install -D -m 755 $(BUILD)/userspace/keel $(DESTDIR)$(PREFIX)/bin/keel
	install -D -m 644 Documentation/man/keel.1 $(DESTDIR)$(PREFIX)/share/man/man1/keel.1
	install -D -m 644 Documentation/man/keel.4 $(DESTDIR)$(PREFIX)/share/man/man4/keel.4
	install -D -m 644 scripts/keel.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/keel
	install -D -m 644 scripts/60-keel.rules $(DESTDIR)/usr/lib/udev/rules.d/60-keel.rules
	$(foreach header,$(wildcard uapi/linux/*.h),\
		install -D -m 644 $(header) $(DESTDIR)$(PREFIX)/include/linux/$(notdir $(header));)
	$(if $(DESTDIR),,udevadm control --reload 2>/dev/null || true)
endef

clean-module:
	$(clean_module)

clean: clean-module
	rm -rf $(filter-out $(BUILD)/cache $(BUILD)/apt,$(wildcard $(BUILD)/*))

distclean: clean
	rm -rf $(BUILD)

help:
	@sed -n 's/^#: \{0,1\}//p' Makefile

#: In the emulated test host (needs no virtualization hardware, and no root but to install packages):
#:   make run                a Linux guest on keel.ko, with a shell on its serial console
#:   make run CMD='...'      runs the shell command there; its output and exit status are make's
#:   make check              all tests; TEST='glob' picks some by name, LINE=npt0 a line of selftests/testhost/runs
#:   make run HOST=vmx       VT-x in Bochs instead of AMD-V in QEMU; svm-nrip is AMD-V in Bochs
#:   make check KREL=6.12    the smoke tests on another kernel series (6.12, 7.2); all: everything on all
#:   make check DEBUG=1      the tests of AMD-V on a kernel with sanitizers and lock checks, built for it
#:   make check DEBUG=kcsan  those with several vCPUs or threads on a kernel that sees data races in the module
#:   make check COVER=1      which lines of the module the tests reach: build/cover/report
#:   make check HOST=svm     the tests on one of the three only: svm, vmx or svm-nrip
#:   make run HV=kvm, make check HV=kvm     the same on the kernel's own KVM
#:   make kvm-selftests      KVM's own selftests; HV=keel, kvm or both (Documentation/abi.rst)
#:   make check-dkms         DKMS builds, installs and removes the module in the test host
#:   make check-clients      libvirt and QEMU on /dev/kvm: firmware, disks, snapshots, migration, debugger
#:   make abi-fuzz           every ioctl with generated arguments; COUNT=1000000 SEED=1
#:   make fuzz-guest         guests that execute random bytes in all modes; COUNT=100000 SEED=1 FIRST=0
#:   make check-crash        kernels that come after a panic, a fault in a window and a kexec find the CPUs clean; HOST=vmx
#:   make storm              killed clients, CPUs that go, memory that runs out and so on; STORM='kill oom' COUNT=
#:   make deps               only installs what is missing for these
#:   make bench              instructions an exit, of in-tree KVM and of Keel; HOST=svm or vmx for one
#: The instruction emulator, on this machine (Documentation/emulator.rst):
#:   make fuzz-diff          against this CPU; COUNT=1000000 SEED=1
#:   make cover              the share of its lines that its unit tests reach
#:   make fuzz-cover         coverage-guided fuzzing, with clang; SECONDS=60
#:   make bench-compare      the same, held against selftests/bench/baseline.json: 5 % are allowed
#:   make bench-net          what a packet costs with each network card; PACKETS=1000
#:   make bench-fork         what a fork costs a guest: shadow, batched, nested; FORKS=200
#:   make bench-paging       double paging: pages that guest and host write to swap
#: The device models, on this machine (Documentation/devices.rst):
#:   make fuzz-devices       coverage-guided fuzzing by a hostile driver; DEVICE=blk SECONDS=60
#: On this machine:
#:   make                    keel.ko, and the client: build/userspace/keel
#:   make load, make unload  insmod and rmmod keel.ko
#:   make install            module, client, header and udev rule
#:   make install-dkms       the same, with DKMS building the module for each kernel
#:   make clean, distclean   remove what was built; and the downloads too
#: Variables:
#:   KDIR=DIR                kernel headers (the running kernel's, else the newest installed)
#:   MODARGS='npt=0 ...'     parameters for keel.ko        (run, load)
#:   RUN_ARGS='-m 1G ...'    arguments for keel run        (run)
#:   DEPS=no                 install nothing: say what is missing and stop
#:   PREFIX=, DESTDIR=       where to install
#:   W=, C=, V=              kbuild's

.PHONY: all module userspace run run-command host-build check bench bench-compare kvm-selftests check-clients check-dkms abi-fuzz fuzz-guest storm check-crash fuzz-diff cover fuzz-cover fuzz-devices bench-net bench-fork bench-paging deps load unload install \
	install-dkms clean clean-module distclean help

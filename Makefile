# make            builds the static binary target/release/drbdbox
# make install    installs it, with the init script and a first configuration (DESTDIR is honoured)
# make demo       two hosts on this machine mirror a device; needs root for all of it
# make test       every test that this machine can run; says what it left out
# make test-lab   drbdbox against the DRBD module of a Linux kernel, in an emulated machine; needs root, qemu and a Debian mirror
# make sim        two cores in a simulated world: SEEDS, SEED_START, SIM_SECONDS say which; SEED=42 runs one
# make sim-mutants   that the simulation finds defects: each deliberate one, and the seed that shows it
# make torture    two hosts with faults of every kind under load: TORTURE_SECONDS (300), TORTURE_SEED repeats a schedule; needs root
# make fuzz       looks for inputs that break a parser or the core: FUZZ_SECONDS a target (60); needs cargo-fuzz and a nightly toolchain
# make rpm        packages that RHEL5 and later install: target/rpm/*.rpm; needs rpmbuild
# make musl-chroot   the static musl binary from Debian's packages alone, where rustup has no musl target, and its tests: needs root,
#                 debootstrap and a Debian mirror; MUSL_ARCHITECTURES="x86_64 i686"
# make bench      speed and memory, as a table: bench.tsv
# ./configure writes config.mk; without it these are the directories:
prefix        = /usr
sysconfdir    = /etc
localstatedir = /var
initdir       = $(sysconfdir)/init.d
mandir        = $(prefix)/share/man
# What is installed beside the tools; rgmanager and systemd are others.
parts         = udev pacemaker heartbeat bashcompletion
-include config.mk

CARGO ?= $(shell command -v cargo || echo "$$HOME/.cargo/bin/cargo")
RUSTC ?= $(shell command -v rustc || echo "$$HOME/.cargo/bin/rustc")
BINARY = target/release/drbdbox
HANDLERS = $(DESTDIR)$(prefix)/lib/drbd
AGENT = $(DESTDIR)/usr/lib/ocf/resource.d/linbit/drbd
MAN = $(DESTDIR)$(mandir)
UNITS = $(DESTDIR)/usr/lib/systemd/system

# The directories that are compiled in (src/sys/paths.rs).
export DRBDBOX_SYSCONFDIR = $(sysconfdir)
export DRBDBOX_LOCALSTATEDIR = $(localstatedir)
# What was built, for the version lines (src/sys/build.rs). Without git they say so with zeros.
export DRBDBOX_COMMIT := $(shell git rev-parse HEAD 2>/dev/null || echo 0000000000000000000000000000000000000000)
export DRBDBOX_COMMIT_TIME := $(shell TZ=UTC git log -1 --date=format-local:'%Y-%m-%d %H:%M:%S' --format=%cd 2>/dev/null || \
	echo '1970-01-01 00:00:00')

all: build

# musl makes a binary that needs nothing of the host and runs on old kernels; a host without that target gets one that
# is static against its own C library. A hard link puts the result at one place for both.
build:
	@musl=$$(uname -m)-unknown-linux-musl; gnu=$$(uname -m)-unknown-linux-gnu; \
	has() { test -d "$$($(RUSTC) --print target-libdir --target $$1 2>/dev/null)"; }; \
	has $$musl || rustup target add $$musl >/dev/null 2>&1 || true; \
	if has $$musl; then \
		echo "drbdbox: building for $$musl (static)"; target=$$musl; \
	else \
		echo "drbdbox: rustc has no $$musl, and rustup could not add it:"; \
		echo "drbdbox: building for $$gnu with +crt-static (static, but too new a C library for Linux 2.6.18)"; target=$$gnu; \
		RUSTFLAGS="$$RUSTFLAGS -C target-feature=+crt-static"; export RUSTFLAGS; \
	fi; \
	$(CARGO) build --release --target $$target --bin drbdbox $(EXAMPLES) $(TESTS) $(CARGOFLAGS) && \
	mkdir -p target/release/examples target/release/lab && ln -f target/$$target/release/drbdbox $(BINARY) && \
	for example in $(patsubst --example=%,%,$(EXAMPLES)); do \
		ln -f target/$$target/release/examples/$$example target/release/examples/$$example || exit 1; \
	done && \
	for test in $(patsubst --test=%,%,$(TESTS)); do \
		newest=$$(ls -t target/$$target/release/deps/$$test-* | grep -v '\.d$$' | head -n 1) && \
		ln -f $$newest target/release/lab/$$test || exit 1; \
	done && \
	echo "drbdbox: $(BINARY) is built"

$(BINARY):
	@$(MAKE) build

# Root need not have a compiler: what `make` built is installed as it is.
install: install-tools $(parts:%=install-%)
	@echo "Don't forget to run chkconfig (Debian: update-rc.d) if the init script is to run at boot"

install-tools: | $(BINARY)
	install -d -m 0755 '$(DESTDIR)/sbin' '$(DESTDIR)$(prefix)/sbin' '$(DESTDIR)$(initdir)' \
		'$(DESTDIR)$(sysconfdir)/drbd.d' '$(DESTDIR)$(localstatedir)/lib/drbd' '$(DESTDIR)$(localstatedir)/lock' \
		'$(DESTDIR)$(prefix)/share/doc/drbdbox' '$(HANDLERS)'
	rm -f '$(DESTDIR)/sbin/drbdbox'
	install -m 0755 $(BINARY) '$(DESTDIR)/sbin/drbdbox'
	'$(DESTDIR)/sbin/drbdbox' --install '$(DESTDIR)/sbin'
	'$(DESTDIR)/sbin/drbdbox' man --install '$(MAN)'
	test '$(DESTDIR)$(prefix)/sbin' -ef '$(DESTDIR)/sbin' || ln -sf /sbin/drbd-overview '$(DESTDIR)$(prefix)/sbin/drbd-overview'
	install -m 0755 packaging/init.d/drbd '$(DESTDIR)$(initdir)/drbd'
	test -e '$(DESTDIR)$(sysconfdir)/drbd.conf' || install -m 0644 packaging/drbd.conf '$(DESTDIR)$(sysconfdir)/drbd.conf'
	test -e '$(DESTDIR)$(sysconfdir)/drbd.d/global_common.conf' || \
		install -m 0644 packaging/global_common.conf '$(DESTDIR)$(sysconfdir)/drbd.d/global_common.conf'
	install -m 0755 packaging/handlers/*.sh packaging/handlers/*-daemon '$(HANDLERS)'
	install -m 0644 packaging/handlers/state.bash '$(HANDLERS)'
	$(MAKE) -s --no-print-directory handler-links DIRECTORY='$(HANDLERS)'
	install -m 0644 README.md LICENSE packaging/default.drbd docs/*.md '$(DESTDIR)$(prefix)/share/doc/drbdbox'

install-udev:
	install -d -m 0755 '$(DESTDIR)$(sysconfdir)/udev/rules.d'
	install -m 0644 packaging/udev/65-drbd.rules '$(DESTDIR)$(sysconfdir)/udev/rules.d/65-drbd.rules'

# Pacemaker looks for its agents in this place only.
install-pacemaker:
	install -d -m 0755 '$(DESTDIR)/usr/lib/ocf/resource.d/linbit'
	sed 's,^LIBDIR=.*,LIBDIR=$(prefix)/lib/drbd,' packaging/pacemaker/drbd >'$(AGENT)'
	chmod 0755 '$(AGENT)'

install-heartbeat:
	install -d -m 0755 '$(DESTDIR)$(sysconfdir)/ha.d/resource.d'
	install -m 0755 packaging/heartbeat/drbddisk packaging/heartbeat/drbdupper '$(DESTDIR)$(sysconfdir)/ha.d/resource.d'

# The cluster suite looks for its resources in this place only.
install-rgmanager:
	install -d -m 0755 '$(DESTDIR)/usr/share/cluster'
	install -d -m 0755 '$(HANDLERS)'
	install -m 0755 packaging/handlers/rhcs_fence '$(HANDLERS)/rhcs_fence'
	install -m 0755 packaging/rgmanager/drbd.sh '$(DESTDIR)/usr/share/cluster/drbd.sh'
	install -m 0644 packaging/rgmanager/drbd.metadata '$(DESTDIR)/usr/share/cluster/drbd.metadata'

install-bashcompletion:
	install -d -m 0755 '$(DESTDIR)$(sysconfdir)/bash_completion.d'
	install -m 0644 packaging/bash-completion/drbdadm '$(DESTDIR)$(sysconfdir)/bash_completion.d/drbdadm'

# Below /usr/lib whatever the prefix: systemd and multipath do not look elsewhere.
install-systemd:
	install -d -m 0755 '$(UNITS)' '$(UNITS)-preset' '$(DESTDIR)/usr/lib/tmpfiles.d' '$(DESTDIR)/etc/multipath/conf.d' '$(HANDLERS)'
	install -m 0644 packaging/systemd/*.service packaging/systemd/*.target '$(UNITS)'
	sed -i 's,@initdir@,$(initdir),; s,@handlers@,$(prefix)/lib/drbd,' '$(UNITS)'/drbd*.service '$(UNITS)'/ocf.ra@.service
	install -m 0755 packaging/systemd/*.sh '$(HANDLERS)'
	install -m 0644 packaging/systemd/90-drbd.preset '$(UNITS)-preset/90-drbd.preset'
	install -m 0644 packaging/systemd/tmpfiles.conf '$(DESTDIR)/usr/lib/tmpfiles.d/drbd.conf'
	install -m 0644 packaging/multipath/drbd.conf '$(DESTDIR)/etc/multipath/conf.d/drbd.conf'

# The names under which handlers are called that tell what to do by their name: links in DIRECTORY.
handler-links:
	for kind in split-brain out-of-sync io-error pri-on-incon-degr pri-lost-after-sb pri-lost emergency-reboot emergency-shutdown; do \
		ln -sf notify.sh '$(DIRECTORY)'/notify-$$kind.sh || exit 1; \
	done
	ln -sf crm-fence-peer.sh '$(DIRECTORY)/crm-unfence-peer.sh'
	ln -sf snapshot-resync-target-lvm.sh '$(DIRECTORY)/unsnapshot-resync-target-lvm.sh'

uninstall:
	for name in drbdadm drbdsetup drbdmeta drbdd drbd-overview drbdbox; do rm -f "$(DESTDIR)/sbin/$$name"; done
	rm -f '$(DESTDIR)$(prefix)/sbin/drbd-overview' '$(DESTDIR)$(initdir)/drbd' '$(AGENT)' \
		'$(DESTDIR)/usr/share/cluster/drbd.sh' '$(DESTDIR)/usr/share/cluster/drbd.metadata' \
		'$(DESTDIR)$(sysconfdir)/udev/rules.d/65-drbd.rules' '$(DESTDIR)$(sysconfdir)/bash_completion.d/drbdadm' \
		'$(DESTDIR)$(sysconfdir)/ha.d/resource.d/drbddisk' '$(DESTDIR)$(sysconfdir)/ha.d/resource.d/drbdupper' \
		'$(UNITS)-preset/90-drbd.preset' '$(DESTDIR)/usr/lib/tmpfiles.d/drbd.conf' '$(DESTDIR)/etc/multipath/conf.d/drbd.conf'
	for unit in packaging/systemd/*.service packaging/systemd/*.target; do rm -f "$(UNITS)/$${unit##*/}"; done
	for page in drbdadm.8 drbdsetup.8 drbdmeta.8 drbdd.8 drbd-overview.8 drbd.8 drbddisk.8; do rm -f "$(MAN)/man8/$$page"; done
	rm -f '$(MAN)/man5/drbd.conf.5'
	rm -rf '$(DESTDIR)$(prefix)/share/doc/drbdbox' '$(HANDLERS)'

# The packages, for rpm 4.4.2 and later: target/rpm/*.rpm. Needs rpmbuild.
rpm: build
	packaging/rpm/build.sh target/rpm
	@ls target/rpm/*.rpm

# Exit status 77 of the script: not possible here, it has said why.
musl-chroot:
	@for architecture in $(or $(MUSL_ARCHITECTURES),x86_64); do \
		tests/musl-chroot.sh $$architecture || { status=$$?; test $$status -eq 77 || exit $$status; }; \
	done

# The programs that only tests/hosts uses.
demo test torture bench: EXAMPLES = --example=host-helper --example=write-checker --example=faulty-disk
bench: EXAMPLES += --example=hot-log

demo: build
	tests/hosts/demo.sh

test: build
	tests/run-all.sh

# TORTURE_SECONDS, TORTURE_SEED, TORTURE_ROUND, TORTURE_PATIENCE: tests/hosts/README.md. Where it is not possible it says why
# and is no failure.
torture: build
	@TORTURE_SECONDS='$(TORTURE_SECONDS)' TORTURE_SEED='$(TORTURE_SEED)' TORTURE_ROUND='$(TORTURE_ROUND)' \
	TORTURE_PATIENCE='$(TORTURE_PATIENCE)' tests/hosts/torture.sh || { status=$$?; test $$status -eq 77 || exit $$status; }

# What only runs in the machine.
test-lab: EXAMPLES = --example=kernel-floor
test-lab: TESTS = --test=kernel_doors

# SCENARIOS="full-sync crash" for some of them. Where it is not possible it says why and is no failure.
test-lab: build
	@ln -f target/release/examples/kernel-floor target/release/lab/kernel-floor
	@tests/lab/run.sh $(SCENARIOS) || { status=$$?; test $$status -eq 77 || exit $$status; }

# FUZZ_TARGETS="core packets" for some of them.
fuzz:
	@FUZZ_SECONDS='$(FUZZ_SECONDS)' FUZZ_TARGETS='$(FUZZ_TARGETS)' tests/fuzz.sh

# Without SEEDS or SIM_SECONDS: 2000 seeds from SEED_START (1) on. SEED runs a single one, SIM_TRACE=1 with all that
# happens. MUTANT names a deliberate defect that the core shall have. tests/sim/README.md.
sim:
	@SEED='$(SEED)' SEEDS='$(or $(SEEDS),$(if $(SIM_SECONDS),,2000))' SEED_START='$(SEED_START)' SIM_SECONDS='$(SIM_SECONDS)' \
	SIM_STEPS='$(SIM_STEPS)' SIM_KEEP='$(SIM_KEEP)' SIM_CLOSELY='$(SIM_CLOSELY)' SIM_TRACE='$(SIM_TRACE)' SIM_THREADS='$(SIM_THREADS)' \
	MUTANT='$(MUTANT)' RUST_BACKTRACE=0 $(CARGO) test --quiet --profile sim $(if $(MUTANT),--features mutants) --test sim -- \
		--nocapture clusters_survive

# MUTANT for one of them. SEEDS: how many may be tried for each (10000).
sim-mutants:
	@SEEDS='$(SEEDS)' SEED_START='$(SEED_START)' SIM_THREADS='$(SIM_THREADS)' MUTANT='$(MUTANT)' RUST_BACKTRACE=0 \
	$(CARGO) test --quiet --profile sim --features mutants --test sim -- --nocapture mutant

bench: build
	tests/bench-conf.sh
	tests/bench-meta.sh
	tests/hosts/bench.sh --out bench.tsv

clean:
	$(CARGO) clean
	rm -rf fuzz/target
	rm -f bench.tsv

distclean: clean
	rm -f config.mk

.PHONY: all build install install-tools install-udev install-pacemaker install-heartbeat install-rgmanager install-bashcompletion \
	install-systemd handler-links uninstall rpm musl-chroot demo test torture test-lab sim sim-mutants fuzz bench clean distclean

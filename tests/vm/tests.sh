#!/bin/sh
# Inside the virtual machine: what the kernel's TLS can be trusted with, what kernel TLS alone can do wrong, and the relay's
# own tests over again. VM_TESTS on the kernel's command line names tests to run in place of these, VM_MIB says how much the
# tests of integrity move each way.
export COUNTERSIGN_BIN=/usr/bin/countersign
export COUNTERSIGN_TEST_SLOWNESS=8 COUNTERSIGN_TEST_KTLS=auto
case $(cat /kernel-name) in
    # Cannot change keys: TLS 1.3 stays in user space.
    release) export COUNTERSIGN_TEST_PATHS=1.2=splice,1.3=user ;;
    *) export COUNTERSIGN_TEST_PATHS=1.2=splice,1.3=splice ;;
esac
# VM_MODE on the kernel's command line: what every listener says of the kernel path, and which way bytes go then.
case $(sed -n 's/.*VM_MODE=\([a-z]*\).*/\1/p' /proc/cmdline) in
    carried)
        export COUNTERSIGN_TEST_LISTENER='splice = "off"'
        COUNTERSIGN_TEST_PATHS=$(echo "$COUNTERSIGN_TEST_PATHS" | sed s/splice/ktls/g) ;;
    tx)
        export COUNTERSIGN_TEST_LISTENER='ktls = "tx"' COUNTERSIGN_TEST_BYTES=in=user,out=splice
        # The operator's own wish: also where keys cannot be changed.
        [ "$(cat /kernel-name)" != release ] || export COUNTERSIGN_TEST_KEYS=fixed
        COUNTERSIGN_TEST_PATHS=1.2=ktls,1.3=ktls ;;
    rx)
        export COUNTERSIGN_TEST_LISTENER='ktls = "rx"' COUNTERSIGN_TEST_BYTES=in=splice,out=user
        COUNTERSIGN_TEST_PATHS=$(echo "$COUNTERSIGN_TEST_PATHS" | sed s/splice/ktls/g) ;;
esac
cd /tmp || exit 1
mib=$(sed -n 's/.*VM_MIB=\([0-9]*\).*/\1/p' /proc/cmdline)
export COUNTERSIGN_TEST_MIB="${mib:-6}"
tests=$(sed -n 's/.*VM_TESTS=\([^ ]*\).*/\1/p' /proc/cmdline | tr , ' ')
if [ -z "$tests" ]; then
    tests='kernel_tls:: endings:: integrity:: tls_options::key_updates hostile::floods:: hostile::resets::'
    units sys::ktls sys::splice --nocapture --test-threads=1 || exit 1
fi
# shellcheck disable=SC2086
{ integration $tests --test-threads=3 2>&1; echo $? > code; } | tee first.log
[ "$(cat code)" -eq 0 ] && exit 0
# An emulated machine on busy cores is slow at times: a few tests that failed get one more try, each alone.
failed=$(sed -n 's/^test \([a-z_0-9:]*\) \.\.\. FAILED$/\1/p' first.log | sort -u)
[ -n "$failed" ] && [ "$(echo "$failed" | wc -l)" -le 3 ] || exit 1
for name in $failed; do
    echo "unsteady: $name, once more"
    integration --exact "$name" --nocapture || exit 1
done

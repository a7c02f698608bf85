#!/bin/sh
# Inside the virtual machine: what the kernel's TLS can be trusted with, and the relay's own tests. VM_TESTS on the kernel's
# command line names tests to run in place of these.
export COUNTERSIGN_BIN=/usr/bin/countersign
cd /tmp || exit 1
tests=$(sed -n 's/.*VM_TESTS=\([^ ]*\).*/\1/p' /proc/cmdline | tr , ' ')
units sys::ktls sys::splice --nocapture --test-threads=1 || exit 1
# shellcheck disable=SC2086
integration ${tests:-endings::} --test-threads=2

#!/bin/sh
# Installs Chromium and its driver, which tests/test_page.py takes, on Debian and Ubuntu where they are
# missing and this user may: about 15 s. Elsewhere, and on GitHub's machines, Chrome is there or the tests
# say that it is missing.
set -eu
if command -v chromedriver >/dev/null || [ -n "${CHROMEWEBDRIVER:-}" ] || ! command -v apt-get >/dev/null; then
    exit 0
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    exit 0
fi
apt="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3"
# Packages of now: an old list may name versions that the archive has no more.
$apt update && $apt install --no-install-recommends chromium chromium-driver >/dev/null

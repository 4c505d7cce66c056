#!/bin/sh
# Finds the browser that the tests of the leaderboard's pages are run in, or installs one from the system's packages or
# from Playwright's. Where none can be had, those tests are skipped and say so.
set -u
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    (apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends chromium) \
        >/dev/null 2>&1 && exit 0
fi
"$1" install chromium-headless-shell >/dev/null 2>&1 ||
    echo "No Chromium was found or could be installed: the tests that need a browser will be skipped." >&2
exit 0

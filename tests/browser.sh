#!/bin/sh
# The browser tests need Chromium or Chrome; Debian's package is installed where that can be done without asking.
for name in chromium chromium-browser google-chrome; do
  command -v "$name" >/dev/null 2>&1 && exit 0
done
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  apt-get update -qq && apt-get install -y -qq chromium
else
  echo "No Chromium found: the browser tests will be skipped. Install it (Debian: apt install chromium)."
fi

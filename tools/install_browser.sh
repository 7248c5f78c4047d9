#!/usr/bin/env bash
# Installs what the tests of the web page drive: Chromium and Node.js by apt, and playwright-core by npm into
# $TFLLV_BROWSER (default: ~/.cache/tfllv-browser). What is there is kept; what cannot be had is said, and its tests skip.
set -uo pipefail
folder=${TFLLV_BROWSER:-$HOME/.cache/tfllv-browser}
version=1.65.1

missing=()
for pair in chromium:chromium node:nodejs npm:npm; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  fi || echo "The tests of the web page will skip: apt-get could not install ${missing[*]}."
fi
if ! command -v npm >/dev/null; then
  echo "The tests of the web page will skip: no npm. As root: apt-get install chromium nodejs npm"
elif ! grep -qs "\"version\": \"$version\"" "$folder/node_modules/playwright-core/package.json"; then
  mkdir -p "$folder" && npm install --silent --no-audit --no-fund --prefix "$folder" "playwright-core@$version" \
    || echo "The tests of the web page will skip: npm could not install playwright-core into $folder."
fi
exit 0

#!/bin/sh
# Bundles the third-party code of the page. Run by hand when a version changes; needs node and npm.
# The results are committed, so that building the server needs neither.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init -y >/dev/null
npm install --silent --save-exact --ignore-scripts=false \
    preact@11.2.0 @preact/signals@2.11.4 htm@3.1.1 uplot@1.6.32 esbuild@0.28.2
cat >preact.js <<'JS'
import { h } from "preact";
import htm from "htm";
export const html = htm.bind(h);
export { render, Fragment } from "preact";
export { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
export { batch, computed, effect, signal, useComputed, useSignal, useSignalEffect } from "@preact/signals";
JS
cat >uplot.js <<'JS'
export { default } from "uplot";
JS
for name in preact uplot; do
    npx esbuild "$name.js" --bundle --minify --format=esm --target=es2022 --legal-comments=none --outfile="$here/$name.js"
done
cp node_modules/uplot/dist/uPlot.min.css "$here/uplot.css"
{
    for package in preact @preact/signals @preact/signals-core htm uplot; do
        printf '%s %s\n\n' "$package" "$(node -p "require('./node_modules/$package/package.json').version")"
        cat "node_modules/$package/LICENSE"
        printf '\n----------------------------------------------------------------\n\n'
    done
} >"$here/LICENSES.txt"
cd "$here"
sha256sum preact.js uplot.js uplot.css >SHA256SUMS

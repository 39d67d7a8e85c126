#!/bin/sh
# mqttools: a PUBLISH with a user property is called malformed, and the client ends the connection.
#
# MQTT 5 §3.3.2.3.7, §1.5.7: a User Property is a UTF-8 String Pair.
#
# Why: its table of properties reads and writes 0x26 as one text. The value's length is then taken for the identifier
# of the next property.
#
# Expected: a property ("a", "b"). Seen: "Invalid property identifier 0."
#
# Needs python3 with venv. Installs into a temporary folder.
set -eu
MQTTOOLS=0.50.0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "mqttools==$MQTTOOLS"
cat > "$folder/look.py" <<'PYTHON'
import sys

from mqttools.common import MalformedPacketError, PayloadReader, unpack_publish

pair = b"\x26\x00\x01a\x00\x01b"
publish = b"\x00\x01t" + bytes([len(pair)]) + pair + b"p"
try:
    print(unpack_publish(PayloadReader(publish), 0))
    sys.exit(1)
except MalformedPacketError as error:
    print(error)
    sys.exit(0 if "identifier 0" in str(error) else 1)
PYTHON
"$folder/venv/bin/python" "$folder/look.py" || { echo "NOT as described"; exit 1; }
echo "as described"

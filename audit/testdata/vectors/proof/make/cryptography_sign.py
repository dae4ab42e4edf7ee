# Copyright The otelaudit Authors
# SPDX-License-Identifier: Apache-2.0
"""Signs types.json with the Python package `cryptography`, over a canonical form
of its own making."""

import base64
import json
import pathlib

from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding

HERE = pathlib.Path(__file__).parent
KEYS, MADE = HERE.parent / "keys", HERE.parent / "made"


def number(value: float) -> str:
    """A number as ECMAScript writes it, from the digits that repr finds."""
    if value == 0:
        return "0"
    sign, value = ("-", -value) if value < 0 else ("", value)
    mantissa, _, exponent = f"{value!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    n = len(digits)
    if n <= point <= 21:
        text = digits + "0" * (point - n)
    elif 0 < point <= 21:
        text = digits[:point] + "." + digits[point:]
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        text = digits[0] + ("." + digits[1:] if n > 1 else "") + f"e{point - 1:+d}"
    return sign + text


def write(value) -> str:
    """JSON in the form of RFC 8785."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(write(key) + ":" + write(value[key]) for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write, value)) + "]"
    if isinstance(value, float):
        return number(value)
    return json.dumps(value, ensure_ascii=False)


def typed(value: dict):
    if "arrayValue" in value:
        return [typed(member) for member in value["arrayValue"].get("values", [])]
    if "kvlistValue" in value:
        return members(value["kvlistValue"].get("values", []))
    if "doubleValue" in value:
        return {"doubleValue": float(value["doubleValue"])}
    return value or None


def members(pairs: list) -> dict:
    return {pair["key"]: typed(pair["value"]) for pair in pairs}


def canonical(record: dict) -> bytes:
    covered = [pair for pair in record["attributes"] if not pair["key"].startswith("audit.integrity.")]
    out = {
        "attributes": members(covered),
        "body": typed(record.get("body", {})),
        "event_name": record.get("eventName"),
        "observed_timestamp": record.get("observedTimeUnixNano"),
        "span_id": record.get("spanId"),
        "timestamp": record.get("timeUnixNano"),
        "trace_id": record.get("traceId"),
    }
    return write({key: value for key, value in out.items() if value}).encode()


def private(name: str):
    return serialization.load_pem_private_key((KEYS / f"{name}.key").read_bytes(), None)


def mac(algorithm: hashes.HashAlgorithm, message: bytes) -> bytes:
    keyed = hmac.HMAC(base64.b64decode((KEYS / "hmac.secret").read_text()), algorithm)
    keyed.update(message)
    return keyed.finalize()


def main() -> None:
    request = json.loads((HERE / "types.json").read_text())
    message = canonical(request["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0])
    values = {
        "RS256": private("rsa").sign(message, padding.PKCS1v15(), hashes.SHA256()),
        "RS512": private("rsa").sign(message, padding.PKCS1v15(), hashes.SHA512()),
        "ES256": private("p256").sign(message, ec.ECDSA(hashes.SHA256())),
        "EdDSA": private("ed25519").sign(message),
        "HMAC-SHA256": mac(hashes.SHA256(), message),
        "HMAC-SHA512": mac(hashes.SHA512(), message),
    }
    for name, value in values.items():
        (MADE / f"cryptography-{name}.value").write_text(base64.b64encode(value).decode())


main()

"""Foreign functions: Envoy's, those that are registered, and what they do later."""

from __future__ import annotations

import time
import zlib
from urllib.parse import unquote_to_bytes

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_curve_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.foreign import protobuf
from shared.proxy_wasm.foreign.call import ForeignCall
from shared.proxy_wasm.foreign.registry import ForeignFunctions
from shared.proxy_wasm.limits import Limits
from tests.conformance.stage import Stage, answers
from tests.conformance.table import LATER, TABLE

asks, case = TABLE.asks, TABLE.case
CALL, EVENT = "proxy_call_foreign_function", "proxy_on_foreign_function"


def message(**fields: str) -> str:
    """SetEnvoyFilterStateArguments and the like, as words of the console: strings by their numbers (`_1="path"`)."""
    parts = (f"%{int(number[1:]) << 3 | 2:02x}%{len(text):02x}{text}" for number, text in fields.items())
    return "".join(parts)


asks(
    CALL,
    "an unknown name is NotFound",
    ("request_headers foreign absent a", "request_headers foreign % a"),
    "NOT_FOUND",
    "NOT_FOUND",
)


@case(CALL, "`compress`: zlib's format")
def _(stage: Stage) -> None:
    packed = "".join(f"%{byte:02x}" for byte in zlib.compress(b"a" * 2000))
    stage.expect(stage.answers(f"request_headers foreign uncompress {packed}"), ["OK " + "a" * 2000])


@case(CALL, "`compress` of 2000 equal bytes is less than 100, and `uncompress` gives them back")
def _(stage: Stage) -> None:
    (answer,) = stage.answers(f"request_headers foreign_back compress uncompress {'a' * 2000}")
    status, size, back, text = answer.split(" ")
    stage.expect((status, int(size) < 100, back, text), ("OK", True, "OK", "a" * 2000))


asks(
    CALL,
    "`uncompress` of anything else is SerializationFailure",
    ("request_headers foreign uncompress data", "request_headers foreign uncompress x%9cK"),
    "SERIALIZATION_FAILURE",
    "SERIALIZATION_FAILURE",
)
asks(
    CALL,
    "`set_envoy_filter_state` is read again as filter state",
    (f"request_headers foreign set_envoy_filter_state {message(_1='key', _2='value')}", "log property filter_state%00key"),
    *("OK", "OK value"),
)
asks(
    CALL,
    "`set_envoy_filter_state` with a broken message is BadArgument, in a plugin context NotFound",
    (
        "request_headers foreign set_envoy_filter_state %0a%ff",
        f"configure foreign set_envoy_filter_state {message(_1='key', _2='value')}",
    ),
    "NOT_FOUND",
    "BAD_ARGUMENT",
)
asks(
    CALL,
    "`declare_property` twice is BadArgument",
    (f"configure foreign declare_property {message(_1='mine')}", f"configure foreign declare_property {message(_1='mine')}"),
    "OK",
    "BAD_ARGUMENT",
)
asks(
    CALL,
    "a property that was declared read-only is set once",
    (
        f"configure foreign declare_property {message(_1='mine')}%10%01",
        "request_headers set_property mine 1",
        "request_headers set_property mine 2",
        "log property mine",
    ),
    "OK",
    "OK",
    "BAD_ARGUMENT",
    "OK 1",
)


# --- signatures

TEXT = b"what is signed"
KEYS: dict[str, RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey] = {
    "RSA": generate_private_key(65537, 2048),
    "ECDSA": generate_curve_key(SECP256R1()),
    "Ed25519": Ed25519PrivateKey.generate(),
}


def words(data: bytes) -> str:
    return "".join(f"%{byte:02x}" for byte in data)


def called(stage: Stage, name: str, arguments: dict[int, int | bytes]) -> tuple[str, dict[int, int | bytes]]:
    """Status and fields of the result."""
    (answer,) = stage.answers(f"request_headers foreign {name} {words(protobuf.encode(arguments))}")
    status, _, result = answer.partition(" ")
    return status, protobuf.fields(unquote_to_bytes(result))


for kind, key in KEYS.items():
    private_der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    public_pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @case(CALL, f"`sign` and `verify_signature` with a key of {kind}; a changed text does not fit")
    def _(stage: Stage, private: bytes = private_der, public: bytes = public_pem) -> None:
        status, signed = called(stage, "sign", {1: b"sha256", 2: private, 3: TEXT})
        stage.expect((status, signed[1]), ("OK", 1))
        asked = {1: b"sha256", 3: signed[2], 4: TEXT, 5: public}
        stage.expect(called(Stage(stage.engine, stage.version), "verify_signature", asked), ("OK", {1: 1}))
        asked[4] = TEXT + b"?"
        stage.expect(
            called(Stage(stage.engine, stage.version), "verify_signature", asked), ("OK", {2: b"the signature does not fit"})
        )


@case(
    CALL,
    "`sign` and `verify_signature` without a key that can be read are BadArgument; an unknown hash is an error text",
)
def _(stage: Stage) -> None:
    public = KEYS["ECDSA"].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for name, arguments in (("sign", {1: b"sha256", 2: b"no key", 3: TEXT}), ("verify_signature", {1: b"sha256", 4: TEXT})):
        (answer,) = Stage(stage.engine, stage.version).answers(
            f"request_headers foreign {name} {words(protobuf.encode({**arguments}))}"
        )
        stage.expect(answer, "BAD_ARGUMENT")
    stage.expect(
        called(stage, "verify_signature", {1: b"md4", 2: public, 3: b"x", 4: TEXT}), ("OK", {2: b"unknown hash function md4"})
    )


def registered(stage: Stage, **functions: object) -> None:
    runtime = stage.worker.runtime
    runtime.foreign = ForeignFunctions(functions, runtime._foreign_event)  # type: ignore[arg-type]


@case(CALL, "a registered function gets the bytes, and answers with bytes or a status")
def _(stage: Stage) -> None:
    registered(stage, turn=lambda call: call.arguments[::-1], deny=lambda call: Status.BAD_ARGUMENT)
    stage.expect(
        stage.answers("request_headers foreign turn abc", "request_headers foreign deny abc"), ["OK cba", "BAD_ARGUMENT"]
    )


@case(CALL, "a registered function that raises is InternalFailure, and its reason is logged")
def _(stage: Stage) -> None:
    def broken(call: ForeignCall) -> bytes:
        raise KeyError("what is missing")

    registered(stage, broken=broken)
    lines = stage.play("request_headers foreign broken abc")
    stage.expect("foreign: INTERNAL_FAILURE" in lines, True)
    stage.expect(
        [line for line in lines if "what is missing" in line], ["foreign function broken: KeyError: 'what is missing'"]
    )


def burn() -> None:
    """Four times what a callback may use."""
    end = time.thread_time() + 4 * Limits().callback_cpu_ms / 1000
    while time.thread_time() < end:
        pass


@case(CALL, "a registered function's time is the plugin's, unless it is excused")
def _(stage: Stage) -> None:
    def excused(call: ForeignCall) -> bytes:
        with call.excused():
            burn()
        return b""

    def counted(call: ForeignCall) -> bytes:
        burn()
        return b""

    registered(stage, excused=excused, counted=counted)
    stage.expect(answers(stage.open("request_headers foreign excused %").request()), ["OK"])
    stage.expect("reply 503 wasm_fail_stream" in stage.open("request_headers foreign counted %").request(), True)


@case(EVENT, "what a function brings later, with its arguments in buffer 8; nothing of it is left afterwards", LATER)
def _(stage: Stage) -> None:
    def start(call: ForeignCall) -> bytes:
        call.later(7, b"the answer")
        return b""

    registered(stage, start=start)
    case_ = stage.open("request_headers foreign start %", "foreign_function buffer 8 4 9", "log buffer 8 0 9")
    lines = case_.request()
    stage.expect([line for line in lines if line.startswith("foreign_function")], [])
    stage.worker.loop.advance()
    stage.expect(stage.journal.take(), ["foreign_function 1 7 10", "buffer: OK answer"])
    stage.expect("buffer: NOT_FOUND" in case_.finish(), True)


@case(EVENT, "buffer 8 is read-only", LATER)
def _(stage: Stage) -> None:
    registered(stage, start=lambda call: call.later(7, b"the answer") or b"")
    stage.open(
        "request_headers foreign start %", "foreign_function set_buffer 8 0 0 x", "foreign_function buffer_status 8"
    ).request()
    stage.journal.take()
    stage.worker.loop.advance()
    stage.expect(stage.journal.take()[1:], ["set_buffer: BAD_ARGUMENT", "buffer_status: OK 10 0"])


@case(EVENT, "not for a plugin context that is gone", LATER)
def _(stage: Stage) -> None:
    registered(stage, start=lambda call: call.later(7, b"") or b"")
    stage.open("request_headers foreign start %").request()
    for root in list(next(iter(stage.worker.runtime._vms.values())).vm.roots.values()):  # type: ignore[union-attr]
        root.delete()
    stage.journal.take()
    stage.worker.loop.advance()
    stage.expect(stage.journal.take(), [])

"""`waspgate plugin run`: a module against described requests, without a gateway, and a transcript of what happened.

The law: the same module and the same case give the same text, times aside, so that the text can be kept and compared.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from control_plane.cli.errors import USAGE, CommandError
from control_plane.cli.plugin.case import Answer, CallAnswer, Case, RequestStep
from shared.proxy_wasm.binary import ModuleError
from shared.proxy_wasm.failures import EngineError, VmFailed
from shared.proxy_wasm.testing.calls import Handler, HttpCall
from shared.proxy_wasm.testing.messages import Request, Response, as_bytes, as_text
from shared.proxy_wasm.testing.plugin import Plugin, Refused
from shared.proxy_wasm.testing.stream import Stream
from shared.proxy_wasm.trace.text import as_json, lines
from shared.proxy_wasm.trace.transcript import Entry, Transcript


@dataclass(slots=True)
class Step:
    """One heading and what was recorded under it; `stream` of a request."""

    title: str
    entries: list[Entry]
    stream: Stream | None = None


@dataclass(slots=True)
class Run:
    steps: list[Step] = field(default_factory=list)
    failure: str = ""


def read_module(path: Path) -> bytes:
    """Raises CommandError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}", USAGE) from error


def run(module: bytes, case: Case) -> Run:
    """Raises CommandError when the module is no plugin or the case cannot be sent."""
    transcript, done = Transcript(), Run()
    try:
        plugin = Plugin.load(
            module,
            name=case.name,
            configuration=case.configuration if isinstance(case.configuration, str) else json.dumps(case.configuration),
            vm_configuration=case.vm_configuration,
            environment=case.environment,
            dialect=case.dialect,
            calls=_answers(case),
            transcript=transcript,
        )
    except (ModuleError, EngineError) as error:
        raise CommandError(f"the module cannot be loaded: {error}") from error
    except (Refused, VmFailed) as error:
        done.steps.append(Step("start", transcript.take()))
        done.failure = str(error)
        return done
    done.steps.append(Step("start", transcript.take()))
    _requests(plugin, case, done, transcript)
    if plugin.failure is None:
        plugin.close()
        done.steps.append(Step("end", transcript.take()))
    return done


def _requests(plugin: Plugin, case: Case, done: Run, transcript: Transcript) -> None:
    for number, wanted in enumerate(case.requests, 1):
        try:
            stream = _send(plugin, wanted)
        except ValueError as error:
            raise CommandError(f"request {number} cannot be sent: {error}", USAGE) from error
        try:
            for _ in range(wanted.ticks):
                plugin.tick()
        except VmFailed:
            pass  # plugin.failure says it
        if not stream.ended and plugin.failure is None:
            transcript.note(f"the {stream.paused or 'request'} still waits; the client leaves")
            plugin.abandon(stream)
        done.steps.append(Step(f"request {number}: {wanted.method} {wanted.path}", transcript.take(), stream))
        if plugin.failure is not None:
            done.failure = str(plugin.failure)
            return


def _send(plugin: Plugin, wanted: RequestStep) -> Stream:
    return plugin.request(
        wanted.method,
        wanted.path,
        authority=wanted.authority,
        headers=wanted.headers,
        body=wanted.body,
        chunks=[as_bytes(chunk) for chunk in wanted.chunks],
        trailers=wanted.trailers,
        response=_response(wanted.response),
    )


def _response(answer: Answer | CallAnswer) -> Response:
    chunks = [as_bytes(chunk) for chunk in answer.chunks]
    return Response(answer.status, answer.headers, answer.body, chunks, answer.trailers)


def _answers(case: Case) -> Handler:
    """Each call gets the next answer that is meant for its upstream; the last one is given again and again."""
    waiting = {answer.upstream: [one for one in case.calls if one.upstream == answer.upstream] for answer in case.calls}

    def answer(call: HttpCall) -> Response | None:
        listed = waiting.get(call.upstream)
        if not listed:
            return None
        chosen = listed.pop(0) if len(listed) > 1 else listed[0]
        if chosen.fails:
            call.fail()
            return None
        return _response(chosen)

    return answer


# --- what is shown


def text(done: Run, *, times: bool) -> str:
    shown = list[str]()
    for step in done.steps:
        shown += [f"# {step.title}", "", *lines(step.entries, times=times), ""]
        if step.stream is not None:
            shown += _messages(step.stream)
    if done.failure:
        shown += [f"FAILED: {done.failure}", ""]
    return "\n".join(shown)


def _messages(stream: Stream) -> Iterator[str]:
    if stream.was_forwarded:
        request = stream.forwarded
        yield from _message("the upstream got", [f"{request.method} {request.path}", f"host: {request.authority}"], request)
    else:
        yield from ("the upstream got nothing", "")
    if stream.has_response:
        yield from _message("the client got", [str(stream.response.status)], stream.response)
    else:
        yield from ("the client got nothing", "")


def _message(title: str, head: list[str], message: Request | Response) -> Iterator[str]:
    yield f"{title}:"
    yield from (f"    {line}" for line in head)
    yield from (f"    {name.lower()}: {value}" for name, value in message.headers)
    if message.body:
        yield ""
        yield from (f"    {line}" for line in _readable(message.body).splitlines())
    if message.trailers:
        yield ""
        yield from (f"    {name.lower()}: {value}" for name, value in message.trailers)
    if not message.complete:
        yield "    (cut off)"
    yield ""


def _readable(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return f"({len(body)} bytes that are no text: {body[:32].hex(' ')}{'...' if len(body) > 32 else ''})"


def document(done: Run) -> dict[str, object]:
    """The same for programs."""
    steps = []
    for step in done.steps:
        shown: dict[str, object] = {"title": step.title, "transcript": [as_json(entry) for entry in step.entries]}
        if step.stream is not None:
            shown["forwarded"] = _forwarded(step.stream)
            shown["response"] = _responded(step.stream)
        steps.append(shown)
    return {"steps": steps, "failure": done.failure or None}


def _forwarded(stream: Stream) -> dict[str, object] | None:
    if not stream.was_forwarded:
        return None
    request = stream.forwarded
    return {"method": request.method, "path": request.path, "authority": request.authority} | _content(request)


def _responded(stream: Stream) -> dict[str, object] | None:
    return {"status": stream.response.status} | _content(stream.response) if stream.has_response else None


def _content(message: Request | Response) -> dict[str, object]:
    return {
        "headers": list(message.headers),
        "body": as_text(message.body),
        "trailers": list(message.trailers),
        "complete": message.complete,
    }


def difference(expected: str, got: str, name: str) -> str:
    """A unified diff; empty when there is none."""
    pieces = difflib.unified_diff(expected.splitlines(), got.splitlines(), name, "this run", lineterm="")
    return "\n".join(pieces)

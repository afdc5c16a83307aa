"""Receives OTLP over HTTP, decodes it by OpenTelemetry's own messages, and prints each log record
and span as a line of JSON. Arguments: the port, and how many requests get a 503 first."""

import base64, gzip, http.server, json, re, sys, threading

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = {"/v1/logs": ExportLogsServiceRequest, "/v1/traces": ExportTraceServiceRequest}
IDS = ("traceId", "spanId", "parentSpanId")
DIGITS = re.compile("([0-9a-f]{16}|[0-9a-f]{32})$")
late = int(sys.argv[2])
whole = threading.Lock()


def with_base64(value):
    """OTLP writes ids in hexadecimal, where JSON of protobuf has base64."""
    if isinstance(value, list):
        return [with_base64(one) for one in value]
    if not isinstance(value, dict):
        return value
    for key in IDS:
        if key in value:
            assert DIGITS.match(value[key]), value[key]
    return {
        key: base64.b64encode(bytes.fromhex(one)).decode() if key in IDS else with_base64(one)
        for key, one in value.items()
    }


def plain(value):
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(one) for one in value.array_value.values]
    return getattr(value, kind)


def attributes(of):
    names = [one.key for one in of]
    assert len(names) == len(set(names)), names
    return {one.key: plain(one.value) for one in of}


def lines(request):
    is_logs = isinstance(request, ExportLogsServiceRequest)
    for resource in request.resource_logs if is_logs else request.resource_spans:
        for scope in resource.scope_logs if is_logs else resource.scope_spans:
            for one in scope.log_records if is_logs else scope.spans:
                line = {
                    "resource": attributes(resource.resource.attributes),
                    "scope": scope.scope.name,
                    "trace": one.trace_id.hex(),
                    "span": one.span_id.hex(),
                    "flags": one.flags,
                    "attributes": attributes(one.attributes),
                }
                if is_logs:
                    line |= {
                        "kind": "log",
                        "time": one.time_unix_nano,
                        "observed": one.observed_time_unix_nano,
                        "severity": one.severity_text,
                        "number": one.severity_number,
                        "event": one.event_name,
                        "body": one.body.string_value,
                    }
                else:
                    line |= {
                        "kind": "span",
                        "parent": one.parent_span_id.hex(),
                        "name": one.name,
                        "role": one.kind,
                        "start": one.start_time_unix_nano,
                        "end": one.end_time_unix_nano,
                        "status": one.status.code,
                        "message": one.status.message,
                    }
                yield line


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global late
        body = self.rfile.read(int(self.headers["content-length"]))
        if late > 0:
            late -= 1
            return self.answer(503)
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        request = KINDS[self.path]()
        if self.headers["content-type"] == "application/json":
            # What it does not know is an error.
            json_format.ParseDict(with_base64(json.loads(body)), request)
        else:
            request.ParseFromString(body)
        with whole:
            for line in lines(request):
                print(json.dumps(line), flush=True)
        self.answer(200)

    def answer(self, status):
        text = b"{}"
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
print(json.dumps({"kind": "ready"}), flush=True)
server.serve_forever()

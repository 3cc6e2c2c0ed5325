"""Ask the server of a live page."""

import http.client
import json


def request(server, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def post(server, name: str, asked: object, **headers: str) -> tuple[int, dict]:
    own = {"Content-Type": "application/json", "Origin": server.address} | headers
    own = {key: value for key, value in own.items() if value}
    status, _, body = request(server, "POST", f"/api/{name}", json.dumps(asked).encode(), **own)
    return status, json.loads(body)

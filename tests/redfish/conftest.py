# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""BMCs on loopback: one that others wrote (sushy-tools' emulator on libvirt's test driver), and one that misbehaves as it is told. A CA of the site's own."""

from __future__ import annotations

import base64
import http.server
import json
import os
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

USER, PASSWORD = "admin", "secret-4711"
SYSTEM = "/redfish/v1/Systems/1"


@dataclass(frozen=True)
class Authority:
    """The CA's certificate, and a certificate for 127.0.0.1 that it signed."""

    ca: Path
    certificate: Path
    key: Path

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    place = tmp_path_factory.mktemp("ca")
    (place / "extensions").write_text("subjectAltName=IP:127.0.0.1\n")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=place, check=True, capture_output=True)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Site CA")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "bmc.key", "-out", "bmc.csr", "-subj", "/CN=127.0.0.1")
    openssl("x509", "-req", "-in", "bmc.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions", "-out", "bmc.pem")
    return Authority(place / "ca.pem", place / "bmc.pem", place / "bmc.key")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Bmc:
    """A BMC as an administrator with curl sees it."""

    address: str
    authority: Authority

    def ask(self, path: str, method: str = "GET", body: dict[str, Any] | None = None) -> dict[str, Any]:
        token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(f"https://{self.address}{path}", method=method, data=json.dumps(body).encode() if body else None,
                                         headers={"Authorization": f"Basic {token}", "Content-Type": "application/json"})
        with urllib.request.urlopen(request, context=self.authority.client(), timeout=10) as answer:
            return dict(json.loads(answer.read() or b"{}"))

    @property
    def bios(self) -> str:
        return str(self.ask("/redfish/v1/Systems")["Members"][0]["@odata.id"]) + "/BIOS"

    def attributes(self) -> dict[str, Any]:
        return dict(self.ask(self.bios)["Attributes"])

    def put(self, **attributes: Any) -> None:
        self.ask(f"{self.bios}/Settings", "PATCH", {"Attributes": attributes})


@pytest.fixture(scope="session")
def emulator(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bmc]:
    """sushy-tools' emulator with TLS and a password. What is set counts at once there: it has no boot to wait for."""
    place = tmp_path_factory.mktemp("bmc")
    program = Path(os.environ["LOWLATENCY_EMULATOR"])
    hashed = "import bcrypt, sys; print(bcrypt.hashpw(sys.argv[1].encode(), bcrypt.gensalt(4)).decode())"
    entry = subprocess.run([program.parent / "python", "-c", hashed, PASSWORD], check=True, capture_output=True, text=True).stdout.strip()
    (place / "htpasswd").write_text(f"{USER}:{entry}\n")
    (place / "config").write_text(f"SUSHY_EMULATOR_AUTH_FILE = {str(place / 'htpasswd')!r}\nSUSHY_EMULATOR_LIBVIRT_URI = 'test:///default'\n")
    port = free_port()
    with open(place / "log", "w", encoding="utf-8") as log:
        process = subprocess.Popen([program, "--config", place / "config", "-i", "127.0.0.1", "-p", str(port), "--ssl-certificate", authority.certificate,
                                    "--ssl-key", authority.key], stdout=log, stderr=log)
        bmc = Bmc(f"127.0.0.1:{port}", authority)
        for _attempt in range(100):
            try:
                bmc.ask("/redfish/v1/Systems")
                break
            except (OSError, urllib.error.URLError):
                assert process.poll() is None, (place / "log").read_text()
                time.sleep(0.2)
        yield bmc
        process.terminate()
        process.wait(10)


@dataclass
class Behaviour:
    """What the other BMC does: the status of every answer, seconds before it, text instead of an answer, and what its systems have."""

    status: int = 200
    delay: float = 0.0
    text: str = ""
    manufacturer: str = "Dell Inc."
    systems: tuple[str, ...] = ("1",)
    attributes: dict[str, Any] = field(default_factory=dict)
    pending: dict[str, Any] = field(default_factory=dict)
    has_settings: bool = True
    seen: list[tuple[str, str]] = field(default_factory=list)

    def document(self, path: str) -> dict[str, Any] | None:
        if path in ("/redfish/v1", "/redfish/v1/"):
            return {"Systems": {"@odata.id": "/redfish/v1/Systems"}, "Vendor": self.manufacturer.partition(" ")[0]}
        if path == "/redfish/v1/Systems":
            return {"Members": [{"@odata.id": f"/redfish/v1/Systems/{name}"} for name in self.systems]}
        for name in self.systems:
            system = f"/redfish/v1/Systems/{name}"
            if path == system:
                return {"Id": name, "Manufacturer": self.manufacturer, "Bios": {"@odata.id": f"{system}/Bios"}}
            if path == f"{system}/Bios":
                settings = {"@Redfish.Settings": {"SettingsObject": {"@odata.id": f"{system}/Bios/Settings"}}} if self.has_settings else {}
                return {"Attributes": self.attributes, **settings}
            if path == f"{system}/Bios/Settings":
                return {"Attributes": self.pending}
        return None


@pytest.fixture
def behaviour() -> Behaviour:
    return Behaviour()


@pytest.fixture
def other_bmc(authority: Authority, behaviour: Behaviour) -> Iterator[Bmc]:
    """A BMC that keeps what is set for the next boot, and misbehaves as the test says."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            behaviour.seen.append((self.command, self.path))
            time.sleep(behaviour.delay)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.command == "PATCH" and behaviour.status == 200:
                behaviour.pending.update(json.loads(body)["Attributes"])
            document = behaviour.document(self.path)
            text = behaviour.text or json.dumps(document)
            self.send_response(behaviour.status if document is not None or behaviour.status != 200 else 404)
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_PATCH = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is told."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate, authority.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Bmc(f"127.0.0.1:{server.server_address[1]}", authority)
    server.shutdown()
    server.server_close()

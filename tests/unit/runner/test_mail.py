"""Mail with the report: a real server with TLS on the loopback takes it; the words come first, and arrive in any case."""

from __future__ import annotations

import datetime
import email.policy
import ipaddress
import socketserver
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relevo import asked, notify, targets
from relevo.notice import Attachment, Notice
from relevo.paths import Place
from tests.unit.runner.sheets import paper_text
from tests.unit.runner.test_notify import BAD, close, file_of, record

PASSWORD = "pq7Vr2mZ4xT9dLpW"
NOTICE = Notice("title", "<p>page</p>", "text\n", "bad")
REPORT = Attachment("run-1.pdf", b"%PDF-1.7 " + b"x" * 60_000)


@dataclass
class Post:
    """What a mail server was handed. refusing: it says 552 to whatever is larger than so many bytes."""

    taken: list[EmailMessage] = field(default_factory=list)
    logins: list[bytes] = field(default_factory=list)
    most_bytes: int = 1 << 24
    url: str = ""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: ARG002, N802 - the server's own names
        content = envelope.original_content or b""
        if len(content) > self.most_bytes:
            return "552 too large"
        message = BytesParser(_class=EmailMessage, policy=email.policy.default).parsebytes(content)
        self.taken.append(message)
        return "250 taken"

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: Any) -> AuthResult:  # noqa: ARG002
        self.logins.append(login.password)
        return AuthResult(success=login.password == PASSWORD.encode())


def certificate(directory: Path) -> tuple[Path, Path]:
    """One that stands for itself, for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.example.org")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = directory / "mail.crt", directory / "mail.key"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return chain, private


@pytest.fixture
def post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Post]:
    chain, private = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, private)
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    office = Post()
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as free:
        port = free.server_address[1]
    server = Controller(
        office,
        hostname="127.0.0.1",
        port=port,
        ssl_context=context,
        authenticator=office.authenticate,
        auth_required=True,
        auth_require_tls=False,
    )
    server.start()
    office.url = f"mailtos://ops:{PASSWORD}@127.0.0.1:{port}?mode=ssl&from=relevo@example.org&to=ops@example.org"
    yield office
    server.stop()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "state", f"sqlite:///{tmp_path}/state/relevo.db")


def parts(message: EmailMessage) -> list[str]:
    return [part.get_content_type() for part in message.walk() if not part.is_multipart()]


def pdf_of(message: EmailMessage) -> bytes:
    (found,) = [part for part in message.walk() if part.get_content_type() == "application/pdf"]
    assert found.get_filename() == "run-1.pdf"
    return bytes(found.get_payload(decode=True) or b"")


pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH")  # its TLS begins with the first byte, which it does not count


def test_the_report_goes_behind_the_words(tmp_path: Path, place: Place, post: Post) -> None:
    close(place, record(gates=BAD), asked.Request(str(file_of(tmp_path, post.url)), report=True))
    assert notify.deliver(place) == notify.Delivery(("run-1",), ())
    (message,) = post.taken
    assert parts(message) == ["text/plain", "text/html", "application/pdf"]
    body = message.get_body(("plain",))
    assert body is not None
    assert "31 h old" in body.get_content()
    text = paper_text(pdf_of(message))
    assert "run run-1" in text and "31 h old" in text
    assert post.logins == [PASSWORD.encode()]
    assert PASSWORD not in message.as_string() + text


def test_without_being_asked_for_there_is_none(tmp_path: Path, place: Place, post: Post) -> None:
    close(place, record(gates=BAD), asked.Request(str(file_of(tmp_path, post.url))))
    assert notify.deliver(place).told == ("run-1",)
    assert parts(post.taken[0]) == ["text/plain", "text/html"]


def test_a_server_that_takes_no_such_mail_takes_the_words(tmp_path: Path, post: Post) -> None:
    post.most_bytes = 30_000
    (target,) = targets.read(file_of(tmp_path, post.url))
    assert target.send(NOTICE, REPORT) is None
    assert parts(post.taken[0]) == ["text/plain", "text/html"]


def test_a_wrong_password_is_a_reason_without_it(tmp_path: Path, post: Post) -> None:
    (target,) = targets.read(file_of(tmp_path, post.url.replace(PASSWORD, f"{PASSWORD}wrong")))
    reason = target.send(NOTICE, REPORT)
    assert reason is not None and PASSWORD not in reason and "line 3 of urls (mailtos)" in reason
    assert post.taken == []


def test_a_report_that_cannot_be_made_is_named_and_keeps_nobody_from_hearing(
    tmp_path: Path, place: Place, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "weasyprint", None)
    close(place, record(gates=BAD), asked.Request(str(file_of(tmp_path, post.url)), report=True))
    assert notify.deliver(place).told == ("run-1",)
    body = post.taken[0].get_body(("plain",))
    assert body is not None
    said = " ".join(body.get_content().split())
    assert "31 h old" in said and "The report was asked for and is not attached: No PDF can be made here" in said
    assert parts(post.taken[0]) == ["text/plain", "text/html"]


def test_a_target_that_takes_no_files_hears_the_words(tmp_path: Path) -> None:
    """apprise's syslog knows no attachments."""
    (target,) = targets.read(file_of(tmp_path, "syslog://"))
    assert targets._service(target.url).attachment_support is False
    assert target.send(NOTICE, REPORT) is None


@pytest.mark.parametrize(("value", "wanted"), [("1", True), ("yes", True), ("0", False), ("", False), (None, False)])
def test_the_environment_asks_where_no_command_line_can(value: str | None, *, wanted: bool) -> None:
    assert asked.wants_report({} if value is None else {asked.REPORT_VARIABLE: value}) is wanted


def test_a_request_of_before_knows_no_report(tmp_path: Path, place: Place, post: Post) -> None:
    directory = close(place, record(gates=BAD))
    (directory / notify.REQUEST).write_text(f'{{"file": "{file_of(tmp_path, post.url)}", "when": "not-passed", "told": []}}')
    assert notify.deliver(place).told == ("run-1",)
    assert parts(post.taken[0]) == ["text/plain", "text/html"]

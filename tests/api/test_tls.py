"""HTTPS with a certificate made here, and tools that are told of it."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from openllm.api.options import Tls
from openllm.errors import UsageError
from tests.serving import MODEL, serving

PASSWORD = "correct horse"


def make_certificate(folder: Path, password: str | None = None) -> tuple[Path, Path]:
    """PEM files of a certificate for localhost, signed by itself, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encryption = (
        serialization.NoEncryption()
        if password is None
        else serialization.BestAvailableEncryption(password.encode())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    return cert_file, key_file


def test_https_streams_and_plain_http_is_not_answered(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path, PASSWORD)
    options = ("--ssl-certfile", str(cert), "--ssl-keyfile", str(key))
    with serving(MODEL, "--backend", "echo", *options, environ={"OPENLLM_SSL_PASSWORD": PASSWORD}) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        assert url.startswith("https://")
        body = {"model": MODEL, "prompt": "la la", "max_tokens": 300, "stream": True}
        context = ssl.create_default_context(cafile=str(cert))
        with httpx.Client(verify=context, timeout=60) as http:
            answer = http.post(f"{url}/v1/completions", json=body)
        assert answer.text.endswith("data: [DONE]\n\n")
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(server.url.replace("https", "http") + "/livez")


@pytest.mark.parametrize("password", [None, "wrong"])
def test_an_encrypted_key_is_not_asked_for_on_the_terminal(tmp_path: Path, password: str | None) -> None:
    cert, key = make_certificate(tmp_path, PASSWORD)
    with pytest.raises(UsageError, match="cannot be used"):
        Tls(certfile=cert, keyfile=key, password=password).check()


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    cert, _ = make_certificate(tmp_path)
    _, key = make_certificate(tmp_path / "other")
    with pytest.raises(UsageError, match="mismatch"):
        Tls(certfile=cert, keyfile=key).check()

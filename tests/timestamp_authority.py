"""A time stamping authority (RFC 3161) on this machine: what one on the internet does, with keys of the test's own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

from asn1crypto import cms, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

_SHA256 = {"algorithm": "sha256"}


@dataclass(frozen=True)
class Authority:
    """Its own root, which it signs with. `time` is what it says the time is."""

    key: ec.EllipticCurvePrivateKey
    root: x509.Certificate
    time: datetime

    @classmethod
    def make(cls, time: datetime) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(time - timedelta(days=1)).not_valid_after(time + timedelta(days=1))
        usage = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.TIME_STAMPING])
        return cls(key, builder.add_extension(usage, critical=True).sign(key, hashes.SHA256()), time)

    def write_root(self, path: Path) -> Path:
        path.write_bytes(self.root.public_bytes(Encoding.PEM))
        return path

    def answer(self, request: bytes) -> bytes:
        """The DER answer to a DER request."""
        asked = tsp.TimeStampReq.load(request)
        info = {
            "version": "v1",
            "policy": "1.2.3.4",
            "message_imprint": asked["message_imprint"],
            "serial_number": 1,
            "gen_time": self.time.astimezone(UTC),
            "nonce": asked["nonce"],
        }
        content = tsp.TSTInfo(info).dump()
        own = asn1_x509.Certificate.load(self.root.public_bytes(Encoding.DER))
        signed = {
            "version": "v3",
            "digest_algorithms": [_SHA256],
            "encap_content_info": {"content_type": "tst_info", "content": cms.ParsableOctetString(content)},
            "certificates": [own],
            "signer_infos": [self._signer_info(content, own)],
        }
        token = {"content_type": "signed_data", "content": cms.SignedData(signed)}
        answer: bytes = tsp.TimeStampResp({"status": {"status": "granted"}, "time_stamp_token": token}).dump()
        return answer

    def _signer_info(self, content: bytes, own: asn1_x509.Certificate) -> cms.SignerInfo:
        named = tsp.SigningCertificateV2({"certs": [{"cert_hash": hashlib.sha256(own.dump()).digest()}]})
        attributes = cms.CMSAttributes(
            [
                {"type": "content_type", "values": ["tst_info"]},
                {"type": "message_digest", "values": [hashlib.sha256(content).digest()]},
                {"type": "signing_certificate_v2", "values": [named]},
            ]
        )
        return cms.SignerInfo(
            {
                "version": "v1",
                "sid": {"issuer_and_serial_number": {"issuer": own.issuer, "serial_number": own.serial_number}},
                "digest_algorithm": _SHA256,
                "signed_attrs": attributes,
                "signature_algorithm": {"algorithm": "sha256_ecdsa"},
                "signature": self.key.sign(attributes.dump(), ec.ECDSA(hashes.SHA256())),
            }
        )


@contextmanager
def serving(authority: Authority, status: int = 200) -> Iterator[str]:
    """Answers over HTTP until the block ends. Gives the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = authority.answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()

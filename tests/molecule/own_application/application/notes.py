"""The least that an application needs to be moved: a write that is answered after its commit, and a health that asks the database."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg

URL = os.environ["DATABASE_URL"]


class Notes(BaseHTTPRequestHandler):
    """GET /health, POST /notes."""

    def answer(self, status, **body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def ask(self, statement, *values):
        """A connection for each request: it follows the database wherever it goes."""
        with psycopg.connect(URL, connect_timeout=2) as connection:
            return connection.execute(statement, values)

    def do_GET(self):
        try:
            self.ask("select 1")
        except psycopg.Error as error:
            self.answer(503, error=str(error))
        else:
            self.answer(200)

    def do_POST(self):
        reference = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["reference"]
        try:
            self.ask("insert into public.notes (reference) values (%s)", reference)
        except psycopg.errors.UniqueViolation:
            self.answer(409)
        except psycopg.Error as error:
            self.answer(503, error=str(error))
        else:
            self.answer(201)


ThreadingHTTPServer(("", 8090), Notes).serve_forever()

"""The shop over HTTP: products, stock, orders, login, health, and the numbered references of a ledger."""

from __future__ import annotations

import hmac
import os
import re
from pathlib import Path
from typing import Any

import psycopg
from flask import Flask, Response, current_app, g, jsonify, render_template_string, request

from . import __version__, accounts
from .database import IDENTITY, Database, UnavailableError

REFERENCE = re.compile(r"[A-Za-z0-9._:-]{1,120}")
SESSION_HOURS = 12


class RefusedError(Exception):
    """The request itself is at fault; nothing was written."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def create_app() -> Flask:
    """The WSGI application."""
    app = Flask("minimarket", static_folder=None)
    app.config["DATABASE"] = Database(os.environ["DATABASE_URL"])
    # Read once at start: a request must not depend on the disk, and the values stay out of the environment.
    app.config["KEY"] = Path(os.environ["MINIMARKET_KEY_FILE"]).read_text(encoding="utf-8").strip()
    app.config["LEDGER_TOKEN"] = Path(os.environ["MINIMARKET_LEDGER_TOKEN_FILE"]).read_text(encoding="utf-8").strip()
    app.add_url_rule("/", view_func=front_page)
    app.add_url_rule("/health", view_func=health)
    app.add_url_rule("/products", view_func=list_products)
    app.add_url_rule("/login", view_func=log_in, methods=["POST"])
    app.add_url_rule("/logout", view_func=log_out, methods=["POST"])
    app.add_url_rule("/account", view_func=show_account)
    app.add_url_rule("/orders", view_func=place_order, methods=["POST"])
    app.add_url_rule("/orders/<int:order_id>", view_func=show_order)
    app.add_url_rule("/ledger", view_func=record_reference, methods=["POST"])
    app.register_error_handler(UnavailableError, _answer_unavailable)
    app.register_error_handler(RefusedError, _answer_refused)
    return app


def _database() -> Database:
    database: Database = current_app.config["DATABASE"]
    return database


def _answer_unavailable(error: UnavailableError) -> tuple[Response, int]:
    current_app.logger.warning("database unavailable: %s %s", error.sqlstate, error)
    return jsonify(
        status="unavailable", server=_database().host, sqlstate=error.sqlstate, error=str(error), committed=error.committed
    ), 503


def _answer_refused(error: RefusedError) -> tuple[Response, int]:
    return jsonify(status="refused", error=str(error), committed=False), error.status


def _body() -> dict[str, Any]:
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise RefusedError(400, "the body must be a JSON object")
    return body


def front_page() -> str:
    """The shelves, for a person."""
    with _database().connection() as connection:
        products = connection.execute(
            "select p.sku, p.name, p.price_cents, i.quantity from shop.products p join shop.inventory_items i using (product_id)"
            " order by p.product_id limit 50"
        ).fetchall()
    return render_template_string(
        "<!doctype html><html lang=en><title>Minimarket</title><h1>Minimarket</h1><table><tr><th>Article<th>Price<th>In stock"
        "{% for p in products %}<tr><td>{{ p.name }} ({{ p.sku }})<td>{{ '%.2f' % (p.price_cents / 100) }}<td>{{ p.quantity }}{% endfor %}"
        "</table></html>",
        products=products,
    )


def health() -> tuple[Response, int]:
    """200 only while the database takes writes."""
    with _database().connection(seconds=1.5) as connection:
        identity = connection.execute(
            f"select {IDENTITY}, (select count(*) from (select from shop.products limit 1) p) as products"
        ).fetchall()[0]
    # A server that takes no writes is no server for a shop, even though it answers.
    healthy = not identity["read_only"] and identity["products"] == 1
    status = "ok" if healthy else "unhealthy"
    return jsonify(status=status, version=__version__, server=_database().host, **identity), 200 if healthy else 503


def list_products() -> Response:
    """A hundred products after the given one."""
    with _database().connection() as connection:
        rows = connection.execute(
            "select p.product_id, p.sku, p.name, p.price_cents, i.quantity from shop.products p"
            " join shop.inventory_items i using (product_id) where p.product_id > %s order by p.product_id limit 100",
            [request.args.get("after", 0, type=int)],
        ).fetchall()
    return jsonify(products=rows)


def log_in() -> Response:
    """A session cookie for a login and its password."""
    body = _body()
    login, password = str(body.get("login", "")), str(body.get("password", ""))
    with _database().connection() as connection:
        user = connection.execute("select user_id, password_hash from shop.users where login = %s", [login]).fetchone()
        # The hash is computed for unknown logins too, so that the time of an answer names no user.
        stored = user["password_hash"] if user else accounts.hash_password("", b"nobody")
        if not accounts.password_matches(password, stored) or not user:
            raise RefusedError(401, "login or password is wrong")
        token = accounts.new_token()
        connection.execute(
            "insert into shop.sessions (token_digest, user_id, expires_at) values (%s, %s, now() + make_interval(hours => %s))",
            [accounts.token_digest(token), user["user_id"], SESSION_HOURS],
        )
    answer = jsonify(status="ok")
    answer.set_cookie("session", token, max_age=SESSION_HOURS * 3600, httponly=True, samesite="Strict")
    return answer


def log_out() -> Response:
    """End the session."""
    with _database().connection() as connection:
        connection.execute(
            "delete from shop.sessions where token_digest = %s", [accounts.token_digest(request.cookies.get("session", ""))]
        )
    answer = jsonify(status="ok")
    answer.delete_cookie("session")
    return answer


def _user_id(connection: psycopg.Connection[dict[str, Any]]) -> int:
    session = connection.execute(
        "select user_id from shop.sessions where token_digest = %s and expires_at > now()",
        [accounts.token_digest(request.cookies.get("session", ""))],
    ).fetchone()
    if session is None:
        raise RefusedError(401, "log in first")
    g.user_id = session["user_id"]
    return int(session["user_id"])


def show_account() -> Response:
    """Who is logged in, with what is kept encrypted."""
    with _database().connection() as connection:
        account = connection.execute(
            "select login, full_name, extensions.pgp_sym_decrypt(email_encrypted, %(key)s) as email,"
            " extensions.pgp_sym_decrypt(phone_encrypted, %(key)s) as phone from shop.users where user_id = %(user)s",
            {"key": current_app.config["KEY"], "user": _user_id(connection)},
        ).fetchone()
    return jsonify(account)


def place_order() -> tuple[Response, int]:
    """Take the stock and write the order, or neither."""
    lines = _body().get("lines")
    try:
        wanted = sorted(
            (int(line["product_id"]), int(line["quantity"])) for line in (lines if isinstance(lines, list) else [lines])
        )
    except (TypeError, KeyError, ValueError):
        raise RefusedError(400, "lines must be a list of {product_id, quantity}") from None
    if not wanted or any(quantity < 1 for _, quantity in wanted):
        raise RefusedError(400, "every line needs a quantity of at least 1")
    with _database().connection() as connection, connection.transaction():
        order = connection.execute(
            "insert into shop.orders (user_id) values (%s) returning order_id", [_user_id(connection)]
        ).fetchall()[0]
        # Sorted by product, so that two orders never wait for each other in a circle.
        for product_id, quantity in wanted:
            taken = connection.execute(
                "update shop.inventory_items set quantity = quantity - %(quantity)s, updated_at = now()"
                " where product_id = %(product)s and quantity >= %(quantity)s returning product_id",
                {"product": product_id, "quantity": quantity},
            ).fetchone()
            if taken is None:
                raise RefusedError(409, f"product {product_id}: not enough in stock")
            connection.execute(
                "insert into shop.order_lines (order_id, product_id, quantity, price_cents)"
                " select %s, product_id, %s, price_cents from shop.products where product_id = %s",
                [order["order_id"], quantity, product_id],
            )
    return jsonify(status="ok", order_id=order["order_id"], committed=True), 201


def show_order(order_id: int) -> Response:
    """The lines of one's own order."""
    with _database().connection() as connection:
        lines = connection.execute(
            "select l.product_id, l.quantity, l.price_cents from shop.orders o join shop.order_lines l using (order_id)"
            " where o.order_id = %s and o.user_id = %s order by l.product_id",
            [order_id, _user_id(connection)],
        ).fetchall()
    if not lines:
        raise RefusedError(404, "no such order")
    return jsonify(order_id=order_id, lines=lines)


def record_reference() -> tuple[Response, int]:
    """Write one reference, once. The answer is given after the commit and names the server that committed."""
    bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(bearer.encode(), current_app.config["LEDGER_TOKEN"].encode()):
        raise RefusedError(401, "the bearer token is wrong")
    reference = _body().get("reference")
    if not isinstance(reference, str) or not REFERENCE.fullmatch(reference):
        raise RefusedError(400, "reference must be 1 to 120 characters of A-Z a-z 0-9 . _ : -")
    with _database().connection() as connection:
        # One statement in autocommit mode: its result arrives only when the commit is done.
        row = connection.execute(
            "with entry as (insert into shop.ledger_entries (reference) values (%s) on conflict do nothing returning reference)"
            f" select (select count(*) from entry) as written, {IDENTITY}",
            [reference],
        ).fetchall()[0]
    written = row.pop("written") == 1
    return jsonify(reference=reference, committed=True, written=written, server=_database().host, **row), 201 if written else 409

-- Data that are the same in every laboratory of one scale: numbers come from md5 of the row's number, never from random().
-- Parameters: scale, key, hashes (one password hash for each user).
insert into shop.products (product_id, sku, name, price_cents)
select n, 'SKU-' || lpad(n::text, 6, '0'),
       (array['Arroz', 'Leche', 'Pan', 'Yerba', 'Azúcar', 'Aceite', 'Fideos', 'Jabón'])[1 + n %% 8] || ' ' || n,
       100 + ('x' || substr(md5('price' || n), 1, 6))::bit(24)::int %% 9900
from generate_series(1, 500 * %(scale)s::int) n;

insert into shop.inventory_items (product_id, quantity)
select product_id, 1000 + ('x' || substr(md5('stock' || product_id), 1, 6))::bit(24)::int %% 9000 from shop.products;

insert into shop.users (user_id, login, password_hash, full_name, email_encrypted, phone_encrypted)
select n, 'cliente' || lpad(n::text, 4, '0'), hash, 'Cliente ' || n,
       extensions.pgp_sym_encrypt('cliente' || n || '@example.com', %(key)s),
       extensions.pgp_sym_encrypt('+54 11 5555 ' || lpad((n %% 10000)::text, 4, '0'), %(key)s)
from unnest(%(hashes)s::text[]) with ordinality as h (hash, n);

insert into shop.orders (order_id, user_id, placed_at)
select n, 1 + ('x' || substr(md5('user' || n), 1, 6))::bit(24)::int %% (select count(*) from shop.users),
       timestamptz '2026-01-01 08:00+00' + n * interval '7 minutes'
from generate_series(1, 5000 * %(scale)s::int) n;

insert into shop.order_lines (order_id, product_id, quantity, price_cents)
select o.order_id, p.product_id, 1 + line, p.price_cents
from shop.orders o
cross join generate_series(0, 2) line
join shop.products p on p.product_id
     = 1 + (('x' || substr(md5('line' || o.order_id), 1, 6))::bit(24)::int + line) %% (500 * %(scale)s::int);

insert into shop.key_check values (1, extensions.pgp_sym_encrypt('minimarket key check', %(key)s));
insert into shop.seed (scale) values (%(scale)s);
select setval(pg_get_serial_sequence('shop.products', 'product_id'), (select max(product_id) from shop.products)),
       setval(pg_get_serial_sequence('shop.users', 'user_id'), (select max(user_id) from shop.users)),
       setval(pg_get_serial_sequence('shop.orders', 'order_id'), (select max(order_id) from shop.orders));

// ioredis and node-redis, Node's two clients, each through what programs use them for; prints what they were told.
//
// usage: node clients.js <port>

const { setTimeout: sleep } = require("node:timers/promises");
const { RedisStore } = require("connect-redis");
const session = require("express-session");
const IORedis = require("ioredis");
const { BasicClientSideCache, createClient } = require("redis");

const port = Number(process.argv[2]);

async function ioredis() {
  const client = new IORedis(port, { keyPrefix: "io:" });
  const results = {};
  client.defineCommand("bump", {
    numberOfKeys: 1,
    lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])",
  });
  // EVALSHA first, EVAL on NOSCRIPT; in a pipeline as well.
  results.script = [await client.bump("n", 2), await client.bump("n", 3)];
  results.pipeline = await client.pipeline().set("k", "v").incr("k").bump("n", 5).get("k").exec()
    .then((replies) => replies.map(([error, reply]) => (error ? error.message : reply)));
  results.multi = (await client.multi().hset("h", { a: 1, b: "two" }).hgetall("h").exec()).map(([, reply]) => reply);
  await client.watch("k");
  const rival = client.duplicate();
  await rival.set("k", "changed");
  results.watched = await client.multi().set("k", "lost").exec();
  const blocked = rival.blpop("list", 10);
  await client.rpush("list", "item");
  results.blocked = await blocked;
  await client.xadd("log", "1-1", "event", "login");
  results.stream = await client.xread("COUNT", 10, "STREAMS", "log", 0);
  results.zset = await client.zadd("z", 1, "a", 2.5, "b").then(() => client.zrange("z", 0, -1, "WITHSCORES"));
  results.buffer = (await client.getBuffer("k")).toString("hex");
  await client.mset(Object.fromEntries(Array.from({ length: 500 }, (_, number) => [`scan:${number}`, number])));
  const found = new Set();
  for await (const keys of client.scanStream({ match: "io:scan:*", count: 50 })) for (const key of keys) found.add(key);
  results.scanned = found.size;

  const listener = new IORedis(port);
  const heard = new Promise((resolve) => listener.on("pmessageBuffer", (...words) => resolve(words.map(String))));
  await listener.psubscribe("news.*");
  results.receivers = await client.publish("news.today", "hello");
  results.heard = await heard;

  const offline = new IORedis(port, { lazyConnect: true, enableAutoPipelining: true, db: 3, connectionName: "auto" });
  results.auto = await Promise.all([offline.set("k", 1), offline.incr("k"), offline.get("k"), offline.client("GETNAME")]);
  await Promise.all([client, rival, listener, offline].map((opened) => opened.quit()));
  return results;
}

async function nodeRedis(protocol) {
  const cache = new BasicClientSideCache({ ttl: 0, maxEntries: 10 });
  const client = createClient({ socket: { port }, RESP: protocol, unstableResp3: true, ...(protocol === 3 && { clientSideCache: cache }) });
  client.on("error", (error) => console.error(error));
  await client.connect();
  const rival = client.duplicate({ clientSideCache: undefined });
  await rival.connect();
  const key = (name) => `node-redis:${protocol}:${name}`;
  const results = {};
  results.set = await client.set(key("k"), "v", { expiration: { type: "EX", value: 100 }, condition: "NX" });
  results.hash = await client.hSet(key("h"), { a: 1, b: 2 }).then(() => client.hGetAll(key("h")));
  results.fields = await client.hExpire(key("h"), "a", 100);
  results.zset = await client.zAdd(key("z"), [{ score: 1, value: "a" }, { score: 2.5, value: "b" }])
    .then(() => client.zRangeWithScores(key("z"), 0, -1));
  results.multi = await client.multi().incr(key("n")).expire(key("n"), 10).get(key("n")).exec();
  results.popped = await Promise.all([rival.blPop(key("list"), 10), client.rPush(key("list"), ["x", "y"])]);
  await client.xGroupCreate(key("s"), "group", "0", { MKSTREAM: true });
  await client.xAdd(key("s"), "1-1", { event: "login" });
  results.group = await client.xReadGroup("group", "me", { key: key("s"), id: ">" });
  results.pending = await client.xPending(key("s"), "group");
  results.acked = await client.xAck(key("s"), "group", "1-1");
  results.places = await client.geoAdd(key("g"), [
    { longitude: 13.361389, latitude: 38.115556, member: "Palermo" },
    { longitude: 15.087269, latitude: 37.502669, member: "Catania" },
  ]).then(() => client.geoSearch(key("g"), { longitude: 15, latitude: 37 }, { radius: 200, unit: "km" }));
  await client.functionLoad(`#!lua name=lib${protocol}
    redis.register_function('twice${protocol}', function(keys, argv) return argv[1] * 2 end)`, { REPLACE: true });
  results.fcall = await client.fCall(`twice${protocol}`, { keys: [], arguments: ["21"] });
  const found = [];
  for await (const keys of client.scanIterator({ MATCH: key("*"), COUNT: 5 })) found.push(...keys);
  results.scanned = [...new Set(found)].sort();

  const heard = new Promise((resolve) => rival.subscribe("node-news", (message) => resolve(message)));
  while ((await client.publish("node-news", "hello")) === 0) await sleep(1);
  results.heard = await heard;
  await rival.unsubscribe("node-news");
  if (protocol === 3) {
    // A value read twice is asked for once, until somebody changes it.
    const reads = [await client.get(key("k")), await client.get(key("k"))];
    await rival.set(key("k"), "new");
    while ((await client.get(key("k"))) !== "new") await sleep(1);
    results.cached = [...reads, cache.stats().hitCount > 0];
  }
  results.info = /redis_version:7/.test(await client.info("server"));
  results.list = (await client.clientList()).length >= 2;
  rival.destroy();
  await client.close();
  return results;
}

async function sessions() {
  const client = createClient({ socket: { port } });
  await client.connect();
  const store = new RedisStore({ client, prefix: "sess:", ttl: 60 });
  const cookie = new session.Cookie({ maxAge: 60000 });
  await store.set("a", { cookie, user: "ann" });
  await store.set("b", { cookie, user: "bob" });
  await store.touch("a", { cookie });
  const results = { user: (await store.get("a")).user, length: await store.length(), ids: (await store.ids()).sort() };
  results.all = (await store.all()).map((each) => each.user).sort();
  await store.destroy("a");
  results.gone = (await store.get("a")) ?? null;
  await store.clear();
  results.left = await store.length();
  await client.close();
  return results;
}

async function main() {
  const [io, resp2, resp3, sess] = await Promise.all([ioredis(), nodeRedis(2), nodeRedis(3), sessions()]);
  console.log(JSON.stringify({ ioredis: io, resp2, resp3, sessions: sess }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

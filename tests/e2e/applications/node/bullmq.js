// BullMQ as its users run it: a producer, a worker and a listener; prints what came of every kind of job.
//
// usage: node bullmq.js <port>

const { fork } = require("node:child_process");
const { FlowProducer, Queue, QueueEvents, UnrecoverableError, Worker } = require("bullmq");

const [port, part] = process.argv.slice(2);
const connection = { host: "127.0.0.1", port: Number(port) };
const WAIT_MS = 20000;

// A worker that takes a job and is killed in the middle of it.
function dieAtWork() {
  // Whoever looks for stalled jobs keeps the others from doing so for an interval.
  const options = { connection, lockDuration: 300, stalledInterval: 100 };
  new Worker("fragile", () => process.kill(process.pid, "SIGKILL"), options);
}

async function main() {
  const queue = new Queue("work", { connection });
  const events = new QueueEvents("work", { connection });
  await events.waitUntilReady();
  const order = [];
  const heard = new Set();
  for (const name of ["waiting", "active", "completed", "failed", "delayed", "progress", "added"]) {
    events.on(name, () => heard.add(name));
  }
  const work = {
    add: async (job) => job.data.a + job.data.b,
    flaky: async (job) => {
      if (job.attemptsMade < 2) throw new Error(`attempt ${job.attemptsMade}`);
      return "third time lucky";
    },
    hopeless: async () => {
      throw new UnrecoverableError("never");
    },
    report: async (job) => {
      await job.updateProgress(50);
      await job.log("half way");
      return "reported";
    },
    tick: async () => "tock",
    parent: async (job) => Object.values(await job.getChildrenValues()).sort(),
    child: async (job) => job.data.name,
    ordered: async (job) => order.push(job.data.name),
  };
  const results = {};
  const outcome = async (job) => job.waitUntilFinished(events, WAIT_MS).catch((error) => `failed: ${error.message}`);

  // What waits before the worker starts is done by priority.
  const first = await queue.addBulk([
    { name: "ordered", data: { name: "late" }, opts: { priority: 10 } },
    { name: "ordered", data: { name: "soon" }, opts: { priority: 1 } },
    { name: "ordered", data: { name: "now" } },
  ]);
  results.counts = await queue.getJobCounts("wait", "prioritized", "delayed", "active");
  const worker = new Worker("work", (job) => work[job.name](job), { connection, concurrency: 1, drainDelay: 1 });
  worker.on("error", (error) => console.error(error));
  await Promise.all(first.map(outcome));
  results.order = order;

  results.sum = await outcome(await queue.add("add", { a: 2, b: 3 }));
  const delayed = await queue.add("add", { a: 20, b: 22 }, { delay: 300 });
  results.delayedState = await delayed.getState();
  results.delayed = await outcome(delayed);
  const flaky = await queue.add("flaky", {}, { attempts: 3, backoff: { type: "fixed", delay: 50 } });
  results.flaky = await outcome(flaky);
  results.attempts = (await queue.getJob(flaky.id)).attemptsMade;
  const hopeless = await queue.add("hopeless", {}, { attempts: 5 });
  results.hopeless = await outcome(hopeless);
  results.failed = (await queue.getFailed()).map((job) => `${job.name}: ${job.failedReason}`);
  const report = await queue.add("report", {});
  results.report = await outcome(report);
  results.progress = (await queue.getJob(report.id)).progress;
  results.logs = (await queue.getJobLogs(report.id)).logs;
  const once = { jobId: "only-once" };
  const twins = [await queue.add("add", { a: 1, b: 1 }, once), await queue.add("add", { a: 9, b: 9 }, once)];
  results.twins = await Promise.all(twins.map(outcome));

  // A repeated job comes again and again until its scheduler is removed.
  let ticks = 0;
  const ticked = new Promise((resolve) => {
    worker.on("completed", (job) => job.name === "tick" && ++ticks === 3 && resolve());
  });
  await queue.upsertJobScheduler("clock", { every: 100 }, { name: "tick" });
  await ticked;
  results.schedulers = (await queue.getJobSchedulers()).map((scheduler) => scheduler.key);
  results.removed = await queue.removeJobScheduler("clock");

  // A parent waits for its children, which are in another queue.
  const children = new Worker("children", (job) => work[job.name](job), { connection, drainDelay: 1 });
  const flow = new FlowProducer({ connection });
  const tree = await flow.add({
    name: "parent",
    queueName: "work",
    children: ["x", "y", "z"].map((name) => ({ name: "child", queueName: "children", data: { name } })),
  });
  results.flow = await outcome(tree.job);

  // What a worker had in hand when it was killed is given to another.
  const fragile = new Queue("fragile", { connection });
  const fragileEvents = new QueueEvents("fragile", { connection });
  const orphan = await fragile.add("add", { a: 5, b: 6 });
  await new Promise((resolve) => fork(__filename, [port, "die"]).on("exit", resolve));
  results.orphan = await orphan.getState();
  const heir = new Worker("fragile", (job) => work[job.name](job), { connection, stalledInterval: 100, drainDelay: 1 });
  results.inherited = await orphan.waitUntilFinished(fragileEvents, WAIT_MS);
  results.stalled = (await fragile.getJob(orphan.id)).stalledCounter;

  await queue.pause();
  const held = await queue.add("add", { a: 3, b: 4 });
  results.paused = [await queue.isPaused(), await held.getState()];
  await queue.resume();
  results.resumed = await outcome(held);
  results.rate = await queue.getRateLimitTtl();
  results.cleaned = (await queue.clean(0, 100, "completed")).length > 0;
  results.heard = [...heard].sort();

  await Promise.all([worker.close(), children.close(), heir.close()]);
  await queue.obliterate({ force: true });
  results.left = (await queue.getJobs()).length;
  await Promise.all([events, fragileEvents, flow, fragile, queue].map((opened) => opened.close()));
  console.log(JSON.stringify(results));
}

if (part === "die") dieAtWork();
else
  main().catch((error) => {
    console.error(error);
    process.exit(1);
  });

// What a program written against the hosted service does, with the official TypeScript SDK. Takes its base URL from
// the environment. Prints what it saw as one JSON object; the test beside it judges that.
import Anthropic, { toFile } from "@anthropic-ai/sdk";

const client = new Anthropic({ maxRetries: 0 });
const seen = {};

const environment = await client.beta.environments.create({
  name: "typescript",
  config: { type: "cloud", networking: { type: "limited", allowed_hosts: ["example.com"] } },
});
seen.networking = environment.config.networking.type;

const agent = await client.beta.agents.create({
  name: "typescript",
  model: "claude-opus-5-5",
  tools: [{ type: "agent_toolset_20260401" }],
});
seen.agentVersion = agent.version;
for (let number = 0; number < 4; number++) {
  await client.beta.agents.create({ name: `a${number}`, model: "claude-opus-5-5" });
}
seen.agents = [];
for await (const one of client.beta.agents.list({ limit: 2 })) seen.agents.push(one.name);

try {
  await client.beta.agents.retrieve("agent_missing");
} catch (error) {
  seen.missing = [error instanceof Anthropic.NotFoundError, error.status, error.requestID?.startsWith("req_")];
}
try {
  await client.beta.environments.create({ name: "typescript" });
} catch (error) {
  seen.taken = [error instanceof Anthropic.ConflictError, error.status];
}

const uploaded = await client.beta.files.upload({
  file: await toFile(Buffer.from("from typescript\n"), "given.txt", { type: "text/plain" }),
});
seen.uploaded = [uploaded.filename, uploaded.size_bytes, uploaded.downloadable];

const session = await client.beta.sessions.create({
  agent: agent.id,
  environment_id: environment.id,
  resources: [{ type: "file", file_id: uploaded.id, mount_path: "/mnt/session/uploads/given.txt" }],
});
seen.status = session.status;

const stream = await client.beta.sessions.events.stream(session.id);
const block = "```bash\ncat /mnt/session/uploads/given.txt | tee /mnt/session/outputs/answer.txt\n```";
await client.beta.sessions.events.send(session.id, {
  events: [{ type: "user.message", content: [{ type: "text", text: `Please run\n${block}` }] }],
});
seen.streamed = [];
for await (const event of stream) {
  seen.streamed.push(event.type);
  if (event.type === "agent.tool_result") seen.result = event.content.map((part) => part.text).join("");
  if (event.type === "session.status_idle") {
    seen.stopReason = event.stop_reason.type;
    break;
  }
}
seen.listed = [];
for await (const event of client.beta.sessions.events.list(session.id, { limit: 2 })) seen.listed.push(event.type);

const deadline = Date.now() + 3000;
seen.outputs = [];
while (seen.outputs.length === 0 && Date.now() < deadline) {
  for await (const file of client.beta.files.list({ scope_id: session.id })) {
    if (file.filename !== "answer.txt") continue;
    const content = await client.beta.files.download(file.id);
    seen.outputs.push([file.filename, file.downloadable, await content.text()]);
  }
}

seen.deleted = (await client.beta.sessions.delete(session.id)).type;
seen.environmentDeleted = (await client.beta.environments.delete(environment.id)).type;
console.log(JSON.stringify(seen));

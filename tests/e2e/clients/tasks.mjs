// Calls a tool as a task with npm's client of 2025-11-25, and prints as JSON everything that it is told on the way, then
// what it reads of the task afterwards.
//
// Read from standard input by `node --input-type=module -`. The plan stands in the variable PLAN: {url, headers, call}.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { CallToolResultSchema } from '@modelcontextprotocol/sdk/types.js';

const plan = JSON.parse(process.env.PLAN);
const transport = new StreamableHTTPClientTransport(new URL(plan.url), { requestInit: { headers: plan.headers } });
const client = new Client({ name: 'forebay-e2e', version: '1' }, { capabilities: {} });
await client.connect(transport);
// Its list says which tools can run as tasks, and the client goes by that.
await client.listTools();
const tasks = client.experimental.tasks;
const told = [];
let id;
for await (const message of tasks.callToolStream(plan.call, CallToolResultSchema, { task: { ttl: 60000 } })) {
    told.push(message.type === 'error' ? { type: 'error', error: String(message.error.message) } : message);
    id ??= message.task?.taskId;
}
const [task, result, list] = [
    await tasks.getTask(id),
    await tasks.getTaskResult(id, CallToolResultSchema),
    await tasks.listTasks(),
];
const refused = await tasks.cancelTask(id).then(
    () => null,
    (error) => ({ code: error.code })
);
const capabilities = client.getServerCapabilities();
await client.close();
process.stdout.write(JSON.stringify({ told, task, result, list, refused, capabilities }));

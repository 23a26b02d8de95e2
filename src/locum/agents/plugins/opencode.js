// Tells locum, a line of JSON each on standard error, what `opencode run --format json` keeps to itself:
// that it is retrying and why, what subagents spend, which tool is at work, and that it is really done.
// A retry ends the run: who started it decides what is tried next, and where.
import { refusal, tell } from "./refusal.js"

export const Locum = async ({ client }) => {
  const parents = {} // session of a subagent -> the session that called it
  const ends = {} // session -> how its last answer ended
  const tools = {} // tool call at work -> true
  const ours = (session) => (parents[session] ? ours(parents[session]) : session)
  const work = (id, status) => {
    const begun = status === "running"
    if (begun === (id in tools)) return
    if (begun) tools[id] = true
    else delete tools[id]
    tell(begun ? "tool" : "tool_done", { id })
  }

  const heed = {
    "session.created": ({ info }) => {
      if (info.parentID) parents[info.id] = info.parentID
      else tell("session", { sessionID: info.id })
    },
    "session.status": async ({ sessionID, status }) => {
      if (status.type !== "retry") return
      const told = { message: status.message, next: status.next, ...refusal() }
      tell("retry", told)
      await client.session.abort({ path: { id: ours(sessionID) } })
      tell("stopped", told)
    },
    "session.error": ({ sessionID, error }) => {
      if (error && !parents[sessionID]) tell("error", { error })
    },
    "session.idle": ({ sessionID }) => {
      if (!parents[sessionID] && ends[sessionID] === "stop") tell("done", {})
    },
    "message.updated": ({ info }) => {
      if (info.role === "assistant") ends[info.sessionID] = info.error ? "error" : info.finish
    },
    "message.part.updated": ({ part, time }) => {
      if (part.type === "step-finish" && parents[part.sessionID]) tell("step_finish", { timestamp: time, part })
      if (part.type === "tool" && !parents[part.sessionID]) work(part.callID, part.state.status)
    },
  }
  return { event: async ({ event }) => heed[event.type]?.(event.properties) }
}

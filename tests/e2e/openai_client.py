"""Run by openai_client_test.py with the interpreter that has the `openai` package: openai_client.py URL [reference.json]"""
import asyncio
import json
import pathlib
import sys
import unittest

import openai

URL = sys.argv[1]
REFERENCE = json.loads(pathlib.Path(sys.argv[2]).read_text()) if len(sys.argv) > 2 else None
HELLO = [{"role": "user", "content": "Recite Genesis 1:1."}]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather of a place.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]


def client(**more):
    return openai.OpenAI(base_url=URL + "/v1", api_key="none", max_retries=0, **more)


class Client(unittest.TestCase):
    def setUp(self):
        self.client = client()
        self.addCleanup(self.client.close)
        self.model = self.client.models.list().data[0].id

    def chat(self, messages=None, **more):
        more = {"max_tokens": 24, "temperature": 0, **more}
        return self.client.chat.completions.create(model=self.model, messages=messages or HELLO, **more)

    def test_models(self):
        self.assertEqual(self.client.models.retrieve(self.model).id, self.model)
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("no-such-model")

    @unittest.skipUnless(REFERENCE, "no reference for this model")
    def test_greedy_answers_are_the_references(self):
        for case in REFERENCE["chat"]:
            n = len(case["greedy_ids"])
            answer = self.chat(case["messages"], max_tokens=n)
            self.assertEqual(answer.choices[0].message.content, case["greedy_text"])
            self.assertEqual(answer.usage.prompt_tokens, len(case["prompt_ids"]))
            self.assertEqual(answer.usage.completion_tokens, n)
            text = "".join(p.choices[0].delta.content or "" for p in self.chat(case["messages"], max_tokens=n, stream=True))
            self.assertEqual(text, case["greedy_text"])
        case = REFERENCE["completion"]
        answer = self.client.completions.create(model=self.model, prompt=case["prompt"], max_tokens=len(case["greedy_ids"]), temperature=0)
        self.assertEqual(answer.choices[0].text, case["greedy_text"])

    def test_chat(self):
        answer = self.chat()
        self.assertEqual(answer.object, "chat.completion")
        self.assertEqual(answer.choices[0].message.role, "assistant")
        self.assertIn(answer.choices[0].finish_reason, ("stop", "length"))
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)

    def test_stream(self):
        whole = self.chat()
        parts = list(self.chat(stream=True, stream_options={"include_usage": True}))
        self.assertEqual({p.id for p in parts}, {parts[0].id})
        self.assertEqual(parts[0].choices[0].delta.role, "assistant")
        self.assertEqual("".join(p.choices[0].delta.content or "" for p in parts[:-1]), whole.choices[0].message.content)
        self.assertEqual(parts[-2].choices[0].finish_reason, whole.choices[0].finish_reason)
        self.assertEqual(parts[-1].choices, [])
        self.assertEqual(parts[-1].usage.completion_tokens, whole.usage.completion_tokens)
        self.assertTrue(all(p.usage is None for p in parts[:-1]))

    def test_completions(self):
        answer = self.client.completions.create(model=self.model, prompt=["In the", "And God"], max_tokens=5, logprobs=2, echo=True, temperature=0)
        self.assertEqual([c.index for c in answer.choices], [0, 1])
        for choice, prompt in zip(answer.choices, ("In the", "And God")):
            self.assertTrue(choice.text.startswith(prompt))
            lp = choice.logprobs
            self.assertIsNone(lp.token_logprobs[0])
            self.assertEqual(len(lp.tokens), len(lp.token_logprobs))
            self.assertEqual(len(lp.tokens), len(lp.text_offset))
            self.assertTrue(all(v <= 0 for v in lp.token_logprobs[1:]))

    def test_n_and_seed(self):
        answer = self.chat(n=3, temperature=1, seed=5)
        self.assertEqual([c.index for c in answer.choices], [0, 1, 2])
        again = self.chat(n=3, temperature=1, seed=5)
        self.assertEqual([c.message.content for c in answer.choices], [c.message.content for c in again.choices])
        parts = list(self.chat(n=3, temperature=1, seed=5, stream=True))
        for i in range(3):
            text = "".join(p.choices[0].delta.content or "" for p in parts if p.choices[0].index == i)
            self.assertEqual(text, answer.choices[i].message.content)

    def test_stop(self):
        text = self.chat().choices[0].message.content
        stop = text.split()[3]
        answer = self.chat(stop=[stop])
        self.assertEqual(answer.choices[0].message.content, text[:text.index(stop)])
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        parts = list(self.chat(stop=stop, stream=True))
        self.assertEqual("".join(p.choices[0].delta.content or "" for p in parts), text[:text.index(stop)])

    def test_logprobs(self):
        answer = self.chat(logprobs=True, top_logprobs=4)
        content = answer.choices[0].logprobs.content
        self.assertEqual("".join(t.token for t in content if t.token not in ("<|im_end|>",)), answer.choices[0].message.content)
        for t in content:
            self.assertEqual(bytes(t.bytes).decode(errors="replace"), t.token)
            self.assertEqual(len(t.top_logprobs), 4)
            self.assertEqual(t.top_logprobs[0].token, t.token, "greedy: the token is the most likely one")
            self.assertAlmostEqual(t.top_logprobs[0].logprob, t.logprob, places=4)

    def test_tools(self):
        # A model of this size calls nothing by itself: the call is begun for it.
        choice = {"type": "function", "function": {"name": "get_weather"}}
        answer = self.chat(tools=TOOLS, tool_choice=choice, max_tokens=40, stop=["}"], extra_body={"include_stop_str_in_output": True})
        call = answer.choices[0].message.tool_calls[0]
        self.assertEqual((call.type, call.function.name), ("function", "get_weather"))
        self.assertTrue(call.id)
        self.assertEqual(self.chat(tools=TOOLS, tool_choice="none").choices[0].message.tool_calls, None)
        follow = HELLO + [{"role": "assistant", "content": None, "tool_calls": [call.model_dump()]},
                          {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
        self.assertEqual(self.chat(follow, tools=TOOLS).choices[0].message.role, "assistant")
        with self.assertRaises(openai.BadRequestError) as raised:
            self.chat(tools=[{"type": "function", "function": {"name": "not a name"}}])
        self.assertEqual(raised.exception.param, "tools[0].function.name")

    def test_errors(self):
        with self.assertRaises(openai.BadRequestError) as raised:
            self.chat(temperature=-1)
        self.assertEqual(raised.exception.param, "temperature")
        self.assertEqual(raised.exception.type, "invalid_request_error")
        self.assertIn("below minimum", raised.exception.message)
        with self.assertRaises(openai.BadRequestError) as raised:
            self.chat(messages=[{"role": "user", "content": "word " * 5000}])
        self.assertEqual(raised.exception.type, "exceed_context_size_error")
        with self.assertRaises(openai.APIStatusError) as raised:
            self.chat(response_format={"type": "json_object"})
        self.assertEqual(raised.exception.status_code, 501)
        with self.assertRaises(openai.APIStatusError) as raised:
            self.client.post("/completions", body={"prompt": 5}, cast_to=object)
        self.assertEqual(raised.exception.status_code, 400)

    def test_cancellation(self):
        stream = self.chat(stream=True, max_tokens=1500, extra_body={"ignore_eos": True})
        for i, _ in enumerate(stream):
            if i == 3:
                break
        stream.close()
        with self.assertRaises(openai.APITimeoutError):
            self.client.with_options(timeout=0.1).chat.completions.create(
                model=self.model, messages=HELLO, max_tokens=1500, extra_body={"ignore_eos": True})

    def test_64_streams_at_once(self):
        prompts = ["In the beginning", "And God said,", "The LORD is my", "Blessed are"]

        async def all_():
            async with openai.AsyncOpenAI(base_url=URL + "/v1", api_key="none", max_retries=0) as many:
                async def one(i):
                    stream = await many.chat.completions.create(model=self.model, messages=[{"role": "user", "content": prompts[i % 4]}],
                                                                max_tokens=30, temperature=0, stream=True)
                    return "".join([p.choices[0].delta.content or "" async for p in stream])
                alone = [await one(i) for i in range(4)]
                return alone, await asyncio.gather(*[one(i) for i in range(64)])
        alone, together = asyncio.run(all_())
        for i, text in enumerate(together):
            self.assertEqual(text, alone[i % 4])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])

"""Networks of tokens: what they are given and may return, and masked language models of
transformers from a folder."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import fewstep
from fewstep.checks import ArgumentError, FewstepError
from fewstep.guidance import discrete as D

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="needs transformers"
)


class Net(nn.Module):
    """Logits from embeddings of the token, the position and the time."""

    def __init__(self, tokens, out, length=6):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(tokens, out, generator=generator))
        self.place = nn.Parameter(torch.randn(length, out, generator=generator))
        self.seen = []

    def forward(self, x, time=None, cond=None):
        self.seen.append((time, cond))
        out = self.table[x].flip(1) + self.place[: x.shape[1]]
        out = out if time is None else out + time[:, None, None]
        return out if cond is None else out + cond[:, None, None] * self.place[: x.shape[1]]


def test_logits_with_and_without_the_mask_column():
    path = D.Masked("linear")
    x = torch.tensor([[4, 0, 4, 1, 2, 4]])
    wide = D.wrap(Net(5, 5), path, 4, 6, time=None)
    p, raw = D.x0_probs(wide, x, 0.5).detach(), wide.network(x).detach()
    assert p.shape == (1, 6, 5) and float(p[..., 4].max()) == 0.0
    torch.testing.assert_close(p[0, 0, :4], torch.softmax(raw[0, 0, :4], -1))
    assert torch.equal(p[0, 1], torch.eye(5)[0])
    narrow = D.wrap(lambda x: raw[..., :4], path, 4, time=None)
    assert torch.equal(D.x0_probs(narrow, x, 0.5), p)


def test_a_mask_inside_the_vocabulary_and_banned_tokens_are_never_drawn():
    den = D.wrap(Net(5, 5), D.Masked("linear", mask=1), 5, 6, time=None, ban=[0, 4])
    x = torch.full((200, 6), 1)
    p = D.x0_probs(den, x, 1.0).detach()
    assert p.shape[-1] == 5 and float(p[..., [0, 1, 4]].max()) == 0.0
    for name in D.names(den.path):
        if name in ("concrete_score", "entropy_bound"):
            continue
        out = fewstep.sample(den, sampler=name, steps=3, n=200)
        assert set(out.unique().tolist()) == {2, 3}


@pytest.mark.parametrize(
    ("time", "wanted"),
    [("t", 0.25), ("sigma", 0.2876820724517809), (lambda t: 1000 * t, 250.0), (None, None)],
)
def test_the_time_that_the_network_gets(time, wanted):
    net = Net(5, 4)
    den = D.wrap(net, D.Masked("linear"), 4, time=time)
    den.x0_logits(torch.full((3, 6), 4), 0.25)
    found = net.seen[-1][0]
    assert den.time_free == (time is None)
    assert found is None if wanted is None else torch.equal(found, torch.full((3,), wanted))


def test_conditions():
    net = Net(5, 4)
    den = D.wrap(net, D.Masked("linear"), 4, 6)
    cond = torch.tensor([1.0, 2.0])
    fewstep.sample(den, steps=2, n=2, cond=cond)
    assert all(torch.equal(given, cond) for _, given in net.seen)
    with pytest.raises(ArgumentError, match="has no parameter cond"):
        fewstep.sample(D.wrap(lambda x, t: net(x, t), D.Masked(), 4, 6), steps=2, n=2, cond=cond)


@pytest.mark.parametrize("path", [D.Masked(D.Linear(1e-3)), D.Uniform(D.Linear(1e-3))], ids=str)
def test_a_network_of_scores_samples_as_that_of_x0(path):
    """The scores of an exact model, as a network: the same draws, token by token."""
    exact = D.MarkovTokens(
        [0.5, 0.3, 0.2], [[0.1, 0.8, 0.1], [0.6, 0.2, 0.2], [0.3, 0.3, 0.4]], 4, path
    )

    def network(x, t):
        p = D.x0_probs(exact, x, float(t[0].double()))
        return path.scores(p, x, float(t[0].double())).log()

    den = D.wrap(network, path, 3, 4, prediction="score")
    for name, steps in (("concrete_score", 4), ("ancestral", 4), ("tau_leaping", 4)):
        a = fewstep.sample(den, sampler=name, steps=steps, n=200)
        b = fewstep.sample(exact, sampler=name, steps=steps, n=200)
        assert float((a != b).double().mean()) < 2e-3
    _, info = fewstep.sample(den, steps=3, info=True)
    assert "concrete_score" in info.reason


def test_outputs_that_hold_logits():
    raw = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    x = torch.full((2, 3), 4)
    for output in (raw, SimpleNamespace(logits=raw), (raw, None)):
        den = D.wrap(lambda x, output=output: output, D.Masked(), 4, time=None)
        assert torch.equal(den.x0_logits(x, 0.5), raw)
    with pytest.raises(ArgumentError, match="the network returned dict"):
        D.wrap(lambda x: {}, D.Masked(), 4, time=None).x0_logits(x, 0.5)


def test_a_network_in_training_mode_is_reported():
    net = nn.Sequential(nn.Embedding(5, 4), nn.Dropout(0.5))
    with pytest.warns(UserWarning, match="training mode"):
        D.wrap(net, D.Masked(), 4, time=None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network": 3}, "must be a function or a module"),
        ({"path": "masked"}, "must be Masked"),
        ({"vocabulary": 1}, "vocabulary=1 must be an integer >= 2"),
        ({"path": D.Masked(mask=9)}, "mask=9: must be at most 4"),
        ({"length": 0}, "length=0"),
        ({"time": "sigmas"}, "did you mean 'sigma'"),
        ({"prediction": "eps"}, "unknown prediction"),
        ({"prediction": "score"}, r"alpha\(1.0\) = 0: concrete scores"),
        ({"ban": [7]}, "ban=7 must be an integer from 0 to 3"),
        ({"ban": range(4)}, "ban= holds all 4 tokens"),
    ],
)
def test_arguments_of_wrap(change, words):
    given = {"network": lambda x, t: x, "path": D.Masked(), "vocabulary": 4, **change}
    with pytest.raises(ArgumentError, match=words):
        D.wrap(**given)


def test_a_network_without_a_length_needs_a_shape():
    den = D.wrap(Net(5, 4), D.Masked(), 4, time=None)
    assert fewstep.sample(den, steps=2, n=2, shape=(3,)).shape == (2, 3)
    with pytest.raises(ArgumentError, match="pass shape=\\(length,\\)"):
        fewstep.sample(den, steps=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small BERT with its tokenizer, saved as transformers does."""
    transformers = pytest.importorskip("transformers")
    where = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
    (where / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(str(where / "vocab.txt")).save_pretrained(where)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=16,
    )  # fmt: skip
    transformers.BertForMaskedLM(config).save_pretrained(where)
    return where


@needs_transformers
def test_a_masked_language_model(folder):
    den = D.load(folder)
    assert (den.vocabulary, den.path.mask, den.time_free) == (13, 4, True)
    x = torch.tensor([[2, 4, 4, 6, 4, 3]]).repeat(300, 1)
    p = D.x0_probs(den, x[:1], 0.5).detach()
    raw = den.network.network(input_ids=x[:1]).logits[0, 1]
    torch.testing.assert_close(p[0, 1, 5:], torch.softmax(raw[5:].detach(), -1))
    for name in ("ancestral", "confidence", "remdm"):
        out = fewstep.sample(den, sampler=name, steps=3, x=x)
        assert torch.equal(out[:, [0, 3, 5]], x[:, [0, 3, 5]])
        assert int(out[:, [1, 2, 4]].min()) >= 5
    attention = {"attention_mask": torch.ones(300, 6, dtype=torch.int64)}
    assert torch.equal(
        fewstep.sample(den, steps=3, x=x, cond=attention), fewstep.sample(den, steps=3, x=x)
    )


@needs_transformers
def test_folders_that_are_refused(folder, tmp_path):
    with pytest.raises(fewstep.models.ModelError, match="must be a folder with config.json"):
        D.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "nothing"}')
    with pytest.raises(fewstep.models.ModelError, match="holds no masked language model"):
        D.load(tmp_path, mask=0, ban=())
    with pytest.raises(ArgumentError, match="mask=99: must be a token of the network"):
        D.load(folder, mask=99)


def test_without_transformers(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr("fewstep.guidance.discrete.pretrained.find_spec", lambda name: None)
    with pytest.raises(FewstepError, match=r"fewstep\[text\]"):
        D.load(tmp_path)

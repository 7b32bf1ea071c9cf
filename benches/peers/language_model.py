"""A Llama in Hugging Face's form, its tokens, and vectors over its parameters."""

import json

import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM


class LanguageModel:
    """The model in f32, all sequences as one batch, and the mean loss over all of their targets."""

    def __init__(self, directory, data, attention):
        self.model = LlamaForCausalLM.from_pretrained(
            directory, dtype=torch.float32, attn_implementation=attention, local_files_only=True
        )
        self.model.eval()
        self.model.config.use_cache = False
        with open(data) as lines:
            self.tokens = torch.tensor([json.loads(line)["input_ids"] for line in lines])
        # As `named_parameters` has them: a tied embedding once.
        self.names = [name for name, _ in self.model.named_parameters()]
        self.parameters = list(self.model.parameters())

    def loss(self):
        return self.model(input_ids=self.tokens, labels=self.tokens).loss

    def gradient(self):
        """What PyTorch itself takes for a gradient: every library's products are compared with it."""
        loss = self.loss()
        gradients = torch.autograd.grad(loss, self.parameters)
        return loss.item(), flat(gradients)

    def vector(self, path):
        """A vector of signs from a file, one tensor a parameter, as a flat unit vector."""
        tensors = load_file(path)
        vector = flat([tensors[name] for name in self.names])
        return vector / vector.numel() ** 0.5

    def split(self, vector):
        """A flat vector as tensors in the shapes of the parameters."""
        pieces = vector.split([parameter.numel() for parameter in self.parameters])
        return [piece.view_as(parameter) for piece, parameter in zip(pieces, self.parameters, strict=True)]


def flat(tensors):
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def named(model, vector):
    """A flat vector for a file, one tensor a parameter."""
    return {name: piece.contiguous() for name, piece in zip(model.names, model.split(vector), strict=True)}

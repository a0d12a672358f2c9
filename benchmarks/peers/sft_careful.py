"""What somebody writes who knows TRL on a CPU: bfloat16, no recomputing, rows of similar length together.

python sft_careful.py MODEL TRAIN.jsonl OUT EPOCHS BATCH RATE SEED
"""

import sys

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

model, train, out, epochs, batch, rate, seed = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(model)
arguments = SFTConfig(
    output_dir=out,
    num_train_epochs=float(epochs),
    per_device_train_batch_size=int(batch),
    learning_rate=float(rate),
    seed=int(seed),
    bf16=torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    gradient_checkpointing=False,
    activation_checkpointing=False,
    train_sampling_strategy="group_by_length",
    completion_only_loss=True,
    max_length=1024,
    save_strategy="no",
    report_to="none",
    use_cpu=True,
    dataloader_pin_memory=False,
)
trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
    args=arguments,
    train_dataset=load_dataset("json", data_files=train, split="train"),
    processing_class=tokenizer,
    peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"),
)
trainer.train()
trainer.save_model(out)

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
{% if cookiecutter.python_version == "3.14" and cookiecutter.compute == "lambda" %}
      version = ">= 6.20, < 7.0" # older ones refuse Lambda's Python 3.14
{% else %}
      version = ">= 5.100, < 7.0"
{% endif %}
    }
  }
}
